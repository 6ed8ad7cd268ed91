"""Routing: from a change and the answer about its images to frames and their recipients.

Pure: no I/O, no clock, and nothing is written. A change has one kind, which decides what is asked
about it and who gets which frame; each frame is rendered once, for all its recipients.

    kind       asked about        everyone            those who see the new row     the others
    SAVE       new image          -                   create or update              -
    + leaves   and old image      -                   create or update              delete, if asked
    REKEY      new (and old)      -                   delete and create             delete
    DELETE     (old image)        delete              -                             -
    TRUNCATE   -                  truncate            -                             -
    LOST       -                  resync              -                             -

Deletes go to every subscriber of the table, or with `AYB_REALTIME_DELETES=visible` to those who
could see the old row, which is then asked about. An image that cannot be judged makes its change
LOST: no one may see it, so everyone is asked to fetch again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from gateway.fanout.dispatch import Dispatch, Judged, Notice, SomeGroups
from gateway.streams import projection, sse
from gateway.streams.cursor import cursor_at
from gateway.visibility.answer import EVERYBODY, NOBODY
from gateway.visibility.cohort_set import CohortSet
from shared.change import Change, Op, TableChanges
from shared.position import Position

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gateway.fanout.dispatch import Groups
    from gateway.streams.connection import Connection
    from gateway.visibility.answer import Answer, Visible
    from gateway.visibility.rules import Rules

    WholeImages = Mapping[tuple[int, int], tuple[bytes | None, bytes | None]]
    """By table and seq: the new and the old image of changes that are truncated in the batch."""

Deletes = Literal["all", "visible"]
Columns = frozenset[str] | None
"""The columns that a role may read; None is all of them."""


class Kind(enum.Enum):
    """What a change means to its recipients."""

    SAVE = enum.auto()
    REKEY = enum.auto()
    DELETE = enum.auto()
    TRUNCATE = enum.auto()
    LOST = enum.auto()


@dataclass(slots=True)
class Subject:
    """One change, its kind, and where its images stand among those asked about."""

    position: Position
    content: TableChanges
    change: Change
    kind: Kind
    new: int | None = None
    old: int | None = None

    @classmethod
    def of(cls, epoch: int, batch: int, content: TableChanges, change: Change) -> Subject:
        """Make the subject for a change of a batch."""
        position = Position(epoch, batch, change.index)
        return cls(position, content, change, kind_of(change, content.key))


def kind_of(change: Change, key: Sequence[str]) -> Kind:
    """Return the kind of a change of a table with this primary key."""
    if change.op is Op.TRUNCATE:
        return Kind.TRUNCATE
    if change.lost:
        return Kind.LOST
    if change.op is Op.DELETE:
        return Kind.DELETE
    if change.op is Op.UPDATE and _is_rekeyed(change, key):
        return Kind.REKEY
    return Kind.SAVE


def images_to_ask(
    subject: Subject, whole: WholeImages, *, wants_leaves: bool, deletes: Deletes
) -> tuple[bytes | None, bytes | None]:
    """Return the new and the old image that are to be asked about; None is not asked."""
    change = subject.change
    new, old = change.new_image, change.old_image
    if change.truncated:
        new, old = whole.get((subject.content.relid, change.seq), (None, None))
    match subject.kind:
        case Kind.SAVE:
            leaves = wants_leaves and change.op is Op.UPDATE
            return new, old if leaves else None
        case Kind.REKEY:
            return new, old if deletes == "visible" else None
        case Kind.DELETE:
            return None, old if deletes == "visible" else None
        case _:
            return None, None


def route_to_all(subjects: Sequence[Subject], members: Groups) -> Judged:
    """Route changes to everyone, unfiltered: authentication is off."""
    return Judged(
        [Dispatch(cursor_at(s.position), _frame(s, None, s.kind), members) for s in subjects]
    )


def route(
    table: str, subjects: Sequence[Subject], answer: Answer[Connection], deletes: Deletes
) -> Judged:
    """Route the changes of one table, named `schema.table`, by what visibility has answered."""
    everyone = answer.grouping.members
    if answer.is_gone:
        # Table or role were dropped since: there is no one to ask who may see these changes.
        first, last = subjects[0], subjects[-1]
        whole_run = Dispatch(cursor_at(first.position), b"", everyone)
        return Judged([whole_run.with_run(cursor_at(last.position), last.content.table)])
    if not answer.columns:
        message = f"permission denied for table: {sse.display_name(table)}"
        return Judged(notices=[Notice(table, message, everyone)])
    dispatches: list[Dispatch] = []
    if answer.unanswered:
        # The server failed for them: failed is not denied, so they are asked to fetch again.
        whole_run = Dispatch(
            cursor_at(subjects[0].position), b"", [everyone[n] for n in sorted(answer.unanswered)]
        )
        last = subjects[-1]
        dispatches.append(whole_run.with_run(cursor_at(last.position), last.content.table))
    recipients = _Recipients(everyone)
    for subject in subjects:
        for dispatch in _route_one(subject, answer, deletes, recipients):
            if dispatches and dispatches[-1].is_continued_by(dispatch):
                # To fetch again once will do: all of these are committed.
                until = cursor_at(subject.position)
                dispatches[-1] = dispatches[-1].with_run(until, subject.content.table)
            else:
                dispatches.append(dispatch)
    return Judged(
        dispatches,
        [
            Notice(table, message, [everyone[n]], has_missed=n not in answer.unanswered)
            for n, message in answer.broken.items()
        ],
    )


def _route_one(
    subject: Subject, answer: Answer[Connection], deletes: Deletes, recipients: _Recipients
) -> Iterator[Dispatch]:
    cursor = cursor_at(subject.position)
    columns = answer.columns
    kind = subject.kind
    if kind is not Kind.TRUNCATE and not _can_be_judged(subject, answer, deletes):
        kind = Kind.LOST
    if kind in (Kind.TRUNCATE, Kind.LOST):
        yield Dispatch(cursor, _frame(subject, columns, kind), recipients.everyone)
        return
    sees_new = _visible(answer, subject.new)
    sees_old = EVERYBODY if deletes == "all" else _visible(answer, subject.old)
    deliveries: list[tuple[Kind, Visible, Visible, bool]]
    if kind is Kind.SAVE:
        deliveries = [(kind, sees_new, NOBODY, False)]
        if subject.old is not None:
            deliveries.append((Kind.DELETE, _visible(answer, subject.old), sees_new, True))
    elif kind is Kind.REKEY:
        both = sees_old if sees_new is EVERYBODY else sees_new
        if sees_new is not EVERYBODY and sees_old is not EVERYBODY:
            both = sees_new & sees_old
        deliveries = [
            (Kind.REKEY, both, NOBODY, False),
            (Kind.SAVE, sees_new, sees_old, False),
            (Kind.DELETE, sees_old, sees_new, False),
        ]
    else:
        deliveries = [(kind, sees_old, NOBODY, False)]
    for rendered_as, visible, without, is_leave in deliveries:
        groups = recipients.of(visible, without)
        if is_leave:
            leaving = ([c for c in group if c.leave] for group in groups)
            groups = [group for group in leaving if group]
        if groups:
            yield Dispatch(cursor, _frame(subject, columns, rendered_as), groups)


def _can_be_judged(subject: Subject, answer: Answer[Connection], deletes: Deletes) -> bool:
    """Whether every image that decides about a change was there and could be judged."""
    if subject.kind is Kind.LOST:
        return False
    if answer.rules is not None and _may_mean_others(subject.change, answer.rules):
        return False
    asked = [n for n in (subject.new, subject.old) if n is not None]
    if any(n in answer.undecidable for n in asked):
        return False
    if subject.kind is not Kind.DELETE and subject.new is None:
        return False
    needs_old = deletes == "visible" and subject.kind in (Kind.DELETE, Kind.REKEY)
    return not (needs_old and subject.old is None)


def _may_mean_others(change: Change, rules: Rules) -> bool:
    return any(
        image is not None and rules.means_others(image, change.seq, is_whole=not change.truncated)
        for image in (change.new_image, change.old_image)
    )


def _visible(answer: Answer[Connection], image: int | None) -> Visible:
    return NOBODY if image is None else answer.visible[image]


class _Recipients:
    """The connections of the cohorts that see something, one and the same object for the same ones.

    Delivery writes changes that follow each other and have the same recipients as one. They are
    listed only then: the lists of a thousand changes for ten thousand clients would take more
    memory than all else.
    """

    def __init__(self, members: Groups) -> None:
        self.everyone = members
        self._known: dict[tuple[Visible, Visible], Groups] = {}

    def of(self, visible: Visible, without: Visible) -> Groups:
        """Return the groups of those who see it, without others."""
        groups = self._known.get((visible, without))
        if groups is None:
            groups = self._known[visible, without] = self._groups(visible, without)
        return groups

    def _groups(self, visible: Visible, without: Visible) -> Groups:
        if without is EVERYBODY:
            return ()
        if visible is EVERYBODY and not without:
            return self.everyone
        everybody = CohortSet((1 << len(self.everyone)) - 1)
        seen = everybody if visible is EVERYBODY else visible
        return SomeGroups(self.everyone, seen - without if without else seen)


def _is_rekeyed(change: Change, key: Sequence[str]) -> bool:
    new, old = change.new_image, change.old_image
    if new is None or old is None or not key:
        return False
    try:
        return projection.key_record(new, key, None) != projection.key_record(old, key, None)
    except msgspec.DecodeError:
        return False


def _frame(subject: Subject, columns: Columns, kind: Kind) -> bytes:
    """Render a change as if it were of a kind; what cannot be read is rendered as lost."""
    change, content, position = subject.change, subject.content, subject.position
    if kind is Kind.TRUNCATE:
        return sse.truncate_frame(position, content.table)
    new, old = change.new_image, change.old_image
    try:
        if kind is Kind.DELETE and old is not None:
            record = projection.key_record(old, content.key, columns)
            return sse.data_frame(position, "delete", content.table, record)
        if kind in (Kind.SAVE, Kind.REKEY) and new is not None:
            is_new = change.op is Op.CREATE or subject.kind is Kind.REKEY
            record = (
                projection.key_record(new, content.key, columns)
                if change.truncated
                else projection.record(new, columns)
            )
            saved = sse.data_frame(
                position,
                "create" if is_new else "update",
                content.table,
                record,
                truncated=change.truncated,
            )
            if kind is Kind.SAVE or old is None:
                return saved
            # Without an id: a client that is cut off between the two gets both again.
            record = projection.key_record(old, content.key, columns)
            return sse.data_frame(None, "delete", content.table, record) + saved
    except msgspec.DecodeError:
        pass
    return sse.resync_frame(position, "overflow", [content.table])
