"""What routing decides and delivery writes: frames, and the connections that get them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gateway.streams import sse
from gateway.streams.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.streams.connection import Connection

    Groups = Sequence[Sequence[Connection]]

_NO_RUN = Cursor(-1)


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
class Notice:
    """An error to report to connections whose own policy or role fails on a table."""

    table: str
    message: str
    groups: Groups


@dataclass(frozen=True, slots=True)
class Judged:
    """A portion of batches after visibility has answered: nothing of it is written yet."""

    dispatches: Sequence[Dispatch] = ()
    notices: Sequence[Notice] = field(default=())
