"""What routing decides and delivery writes: frames, and the connections that get them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, overload

from gateway.fanout.slow_tables import tables_of
from gateway.streams import sse
from gateway.streams.cursor import Cursor
from gateway.streams.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from gateway.fanout.slow_tables import TableRole
    from gateway.streams.connection import Connection

    Groups = Sequence[Sequence[Connection]]

_NO_RUN = Cursor(-1)


class SomeGroups(Sequence[Sequence["Connection"]]):
    """Some of the groups, by their numbers; each iteration builds the list again."""

    __slots__ = ("_all", "_numbers")

    def __init__(self, all_groups: Groups, numbers: AbstractSet[int]) -> None:
        self._all = all_groups
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Sequence[Connection]]:
        all_groups = self._all
        return (all_groups[number] for number in self._numbers)

    @overload
    def __getitem__(self, place: int) -> Sequence[Connection]: ...
    @overload
    def __getitem__(self, place: slice) -> Groups: ...
    def __getitem__(self, place: int | slice) -> Sequence[Connection] | Groups:
        return list(self)[place]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Some bytes and the groups of connections that get them, unless they are past `cursor`."""

    cursor: Cursor
    frame: bytes
    groups: Groups
    until: Cursor = _NO_RUN
    """Of a run of changes: the cursor after the last one. Connections before that get the frame."""

    @property
    def is_resync(self) -> bool:
        """Whether the change cannot be delivered, and the table is to be fetched again."""
        return self.frame.startswith(sse.RESYNC)

    def is_continued_by(self, other: Dispatch) -> bool:
        """Whether both ask the same connections to fetch the same table again."""
        return self.is_resync and other.is_resync and self.groups is other.groups

    def with_run(self, until: Cursor, table: str) -> Dispatch:
        """Stand for all changes of a table up to another one, at the place of the first.

        The frame has no position: a client that is cut off after it has not been sent other tables'
        changes from between, and one that stands in between must not be sent back.
        """
        frame = self.frame
        if self.until == _NO_RUN:
            frame = sse.resync_frame(None, "overflow", [table])
        return replace(self, frame=frame, until=until)


@dataclass(frozen=True, slots=True)
class Run:
    """Dispatches that follow each other and have the same recipients: they are written as one.

    Almost every recipient stands before `first` and gets the whole frame, with one step and one
    write for all of its events. One that stands within the run gets the rest of its dispatches.
    """

    dispatches: Sequence[Dispatch]
    frame: Frame

    def recipients(self) -> Sequence[Connection]:
        """List the recipients."""
        groups = self.dispatches[0].groups
        return groups[0] if len(groups) == 1 else list(chain.from_iterable(groups))

    @property
    def first(self) -> Cursor:
        """The position of the first dispatch."""
        return self.dispatches[0].cursor

    @property
    def last(self) -> Cursor:
        """The position of the last dispatch: where a recipient stands afterwards."""
        return self.dispatches[-1].cursor

    def rest_for(self, connection: Connection) -> Sequence[Dispatch]:
        """Return the dispatches that a connection does not have, which may stand within the run."""
        cursor = connection.cursor
        return [d for d in self.dispatches if cursor < max(d.cursor, d.until)]


def runs_of(dispatches: Iterable[Dispatch]) -> list[Run]:
    """Put dispatches that follow each other together if they have the same groups.

    Routing gives the same object to all changes that the same connections see. Dispatches that
    stand for a run of changes themselves stay alone: what they are for is not told by their place.
    """
    runs: list[list[Dispatch]] = []
    for dispatch in dispatches:
        before = runs[-1][-1] if runs else None
        if (
            before is not None
            and before.groups is dispatch.groups
            and before.until == dispatch.until == _NO_RUN
        ):
            runs[-1].append(dispatch)
        else:
            runs.append([dispatch])
    return [Run(run, _frame_of(run)) for run in runs]


def _frame_of(run: Sequence[Dispatch]) -> Frame:
    return Frame(run[0].frame if len(run) == 1 else b"".join([d.frame for d in run]))


@dataclass(frozen=True, slots=True)
class Notice:
    """An error to report to connections whose own policy or role fails on a table.

    With `has_missed`, it is not known which changes they may see, and none was sent.
    """

    table: str
    message: str
    groups: Groups
    has_missed: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A portion of batches after visibility has answered: nothing of it is written yet.

    `recorded` says when the batches were recorded, in Unix seconds, with the form in which tables
    of theirs were judged; `changes` counts the changes that were judged, once for each role.
    `given_up` are the tables that were not answered about in time, and `postponed` the connections
    that a table's question left out, with that table where their users are costly to it: see
    `leaves_out`.
    """

    dispatches: Sequence[Dispatch] = ()
    notices: Sequence[Notice] = ()
    given_up: frozenset[TableRole] = frozenset()
    postponed: Mapping[Connection, TableRole | None] = field(default_factory=dict)
    recorded: frozenset[tuple[str, float]] = frozenset()
    changes: int = 0

    def leaves_out(self, connection: Connection) -> bool:
        """Whether a connection misses something of the portion, and so must get nothing of it.

        What it is sent moves its position forward; past a change that is still to be judged for it,
        that change would be lost.
        """
        return connection in self.postponed or not self.given_up.isdisjoint(tables_of(connection))

    def for_the_others(self) -> Judged:
        """Return the same without what is for connections that are left out.

        They are recognised by their tables and not by who asked: a connection may have left the
        round in the meantime, and is still in the groups.
        """
        if not self.given_up and not self.postponed:
            return self
        known: dict[Connection, bool] = {}

        def stays(connection: Connection) -> bool:
            left_out = known.get(connection)
            if left_out is None:
                left_out = known[connection] = self.leaves_out(connection)
            return not left_out

        def staying(groups: Groups) -> Groups:
            kept = ([c for c in group if stays(c)] for group in groups)
            return [group for group in kept if group]

        return replace(
            self,
            dispatches=[
                replace(dispatch, groups=groups)
                for dispatch in self.dispatches
                if (groups := staying(dispatch.groups))
            ],
            notices=[replace(n, groups=staying(n.groups)) for n in self.notices],
        )
