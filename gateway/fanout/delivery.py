"""From batches to bytes on sockets: what is told to whom, in commit order.

For each table and role one question is asked for all events of the merged batches and all
connections. Then the events of all tables are put in their order (batch, index), each is written
once as bytes, and these bytes are shared by everybody who gets it. A connection is told an event
only if it stands before it (`Connection.order`), so nothing is told twice, whatever was read again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import structlog

from gateway.fanout.subscriptions import OPEN_ROLE
from gateway.streams import projection, sse
from gateway.visibility.engine import EVERYBODY, Answer, Image
from shared.change import Batch, Change, Op, TableChanges
from shared.position import Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.subscriptions import Subscriptions, TableSubscribers
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Connection
    from gateway.visibility.cohorts import Audience
    from gateway.visibility.engine import Visibility, Visible
    from gateway.visibility.rules import Rules

log = structlog.get_logger(__name__)

_STEPS_BETWEEN_YIELDS: Final = 20_000
_NOTICES_APART_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Some bytes and the groups of connections that get them."""

    order: int
    frame: bytes
    groups: Sequence[Sequence[Connection]]
    until: int = -1
    """Of a run of changes: the order of the last one. Whoever stands before that is told."""

    @property
    def is_resync(self) -> bool:
        """Whether a change cannot be told, and the table is to be fetched afresh."""
        return self.frame.startswith(sse.RESYNC)

    def is_continued_by(self, other: Dispatch) -> bool:
        """Whether both ask the same connections to fetch afresh."""
        return self.is_resync and other.is_resync and self.groups is other.groups

    def with_run(self, last: _Subject) -> Dispatch:
        """Stand for all changes up to another one, at the place of the first.

        There is no position in it: a client that is cut off behind it has been told no other
        table's changes of between, and one that stands in between must not be sent back.
        """
        frame = self.frame
        if self.until < 0:
            frame = sse.resync_frame(None, "overflow", [last.content.table])
        return replace(self, frame=frame, until=last.position.order)


@dataclass(slots=True)
class _Question:
    """What is asked about one table for one role."""

    subscribers: TableSubscribers
    relid: int
    audience: Audience[Connection]
    subjects: list[_Subject] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)


@dataclass(slots=True)
class _Subject:
    """One change, and where its images stand in the question."""

    position: Position
    content: TableChanges
    change: Change
    new: int | None = None
    old: int | None = None


class Delivery:
    """Judges batches for a subscriptions and writes what came out."""

    def __init__(
        self,
        *,
        visibility: Visibility | None,
        backlog: Backlog,
        deletes: Literal["all", "visible"],
        metrics: GatewayMetrics,
    ) -> None:
        self._visibility = visibility
        self._backlog = backlog
        self._deletes = deletes
        self._metrics = metrics
        self._noticed: dict[tuple[str, str], float] = {}

    async def judge(self, batches: Sequence[Batch], subscriptions: Subscriptions) -> list[Dispatch]:
        """Decide who is told what, in order.

        Raises `DatabaseUnavailableError` where Postgres cannot be asked now; nothing has been
        told then, and the same may be asked again.
        """
        questions = self._questions(batches, subscriptions)
        if not questions:
            return []
        lsn = max(batch.lsn for batch in batches)
        whole = await self._whole_images(questions)
        if len(questions) == 1:
            parts = [await self._ask(questions[0], lsn, whole)]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(q, lsn, whole)) for q in questions]
            parts = [task.result() for task in tasks]
        dispatches = [dispatch for part in parts for dispatch in part]
        dispatches.sort(key=lambda dispatch: dispatch.order)
        return dispatches

    async def write(self, dispatches: Iterable[Dispatch]) -> int:
        """Write to each connection what it has not been told yet, in one piece; count events."""
        touched: list[Connection] = []
        steps = told = 0
        for dispatch in dispatches:
            order, until, frame = dispatch.order, dispatch.until, dispatch.frame
            for group in dispatch.groups:
                for connection in group:
                    if connection.order < order:
                        connection.order = order
                    elif connection.order >= until:
                        continue
                    if not connection.frames:
                        touched.append(connection)
                    connection.frames.append(frame)
                    told += 1
                steps += len(group)
                if steps > _STEPS_BETWEEN_YIELDS:
                    steps = 0
                    await asyncio.sleep(0)
        now = time.time()
        for number, connection in enumerate(touched, 1):
            frames = connection.frames
            connection.frames = []
            if connection.expires_at is None or now < connection.expires_at:
                connection.write(*frames)
            else:
                connection.expire()
            if number % 1000 == 0:
                await asyncio.sleep(0)
        return told

    def _questions(self, batches: Sequence[Batch], subscriptions: Subscriptions) -> list[_Question]:
        found: dict[tuple[str, int, str], _Question] = {}
        for batch in batches:
            for content in batch.tables:
                for subscribers in subscriptions.of(content.table, content.relid):
                    for role, audience in subscribers.audiences.items():
                        key = (subscribers.table, content.relid, role)
                        question = found.get(key)
                        if question is None:
                            question = _Question(subscribers, content.relid, audience)
                            found[key] = question
                        question.subjects.extend(
                            _Subject(Position(batch.epoch, batch.id, change.index), content, change)
                            for change in content.changes
                        )
        return list(found.values())

    async def _whole_images(
        self, questions: Sequence[_Question]
    ) -> Mapping[tuple[int, int], tuple[bytes | None, bytes | None]]:
        """Fetch the images that were too large for the bus, since policies may read all of them."""
        if self._visibility is None:
            return {}
        seqs = {
            subject.change.seq
            for question in questions
            for subject in question.subjects
            if subject.change.truncated
        }
        return await self._backlog.whole_images(seqs) if seqs else {}

    async def _ask(
        self,
        question: _Question,
        lsn: int,
        whole: Mapping[tuple[int, int], tuple[bytes | None, bytes | None]],
    ) -> list[Dispatch]:
        if self._visibility is None or question.audience.role == OPEN_ROLE:
            return self._tell_everybody(question)
        for subject in question.subjects:
            change = subject.change
            new, old = change.new_image, change.old_image
            if change.truncated:
                new, old = whole.get((question.relid, change.seq), (None, None))
            if change.op in (Op.CREATE, Op.UPDATE) and new is not None:
                subject.new = len(question.images)
                question.images.append(Image(new))
            wants_old = (change.op is Op.UPDATE and question.subscribers.wants_leaves) or (
                change.op is Op.DELETE and self._deletes == "visible"
            )
            if wants_old and old is not None:
                subject.old = len(question.images)
                question.images.append(Image(old))
        began = time.monotonic()
        answer = await self._visibility.ask(question.relid, question.audience, question.images, lsn)
        self._metrics.judged_seconds.observe(time.monotonic() - began)
        return self._deliver(question, answer)

    def _tell_everybody(self, question: _Question) -> list[Dispatch]:
        groups = question.audience.grouped(()).members
        dispatches = []
        for subject in question.subjects:
            frame = _frame(subject, None)
            dispatches.append(Dispatch(subject.position.order, frame, groups))
        return dispatches

    def _deliver(self, question: _Question, answer: Answer[Connection]) -> list[Dispatch]:
        everybody = answer.grouping.members
        if answer.is_gone:
            # Table or role were dropped since: nobody can be asked who may see these changes.
            first, last = question.subjects[0], question.subjects[-1]
            return [Dispatch(first.position.order, b"", everybody).with_run(last)]
        if not answer.columns:
            name = sse.display_name(question.subscribers.table)
            self._notice(question, everybody, f"permission denied for table: {name}")
            return []
        for cohort, message in answer.broken.items():
            self._notice(question, [everybody[cohort]], message)
        dispatches: list[Dispatch] = []
        for subject in question.subjects:
            for dispatch in self._tell_subject(subject, answer):
                if dispatches and dispatches[-1].is_continued_by(dispatch):
                    # To fetch afresh once will do: all of these are committed.
                    dispatches[-1] = dispatches[-1].with_run(subject)
                else:
                    dispatches.append(dispatch)
        return dispatches

    def _tell_subject(self, subject: _Subject, answer: Answer[Connection]) -> Iterable[Dispatch]:
        order = subject.position.order
        everybody = answer.grouping.members
        op = subject.change.op
        if op is Op.TRUNCATE:
            yield Dispatch(order, _frame(subject, answer.columns), everybody)
            return
        if answer.rules is not None and _may_mean_others(subject.change, answer.rules):
            yield Dispatch(order, _lost_frame(subject), everybody)
            return
        if op is Op.DELETE and self._deletes == "all":
            yield Dispatch(order, _frame(subject, answer.columns), everybody)
            return
        asked = [n for n in (subject.new, subject.old) if n is not None]
        judged = subject.old if op is Op.DELETE else subject.new
        if judged is None or any(n in answer.undecidable for n in asked):
            # No image, or one that cannot be judged: nobody may see it, everybody is told so.
            yield Dispatch(order, _lost_frame(subject), everybody)
            return
        visible = answer.visible[judged]
        groups = _groups(visible, everybody)
        if groups:
            yield Dispatch(order, _frame(subject, answer.columns), groups)
        if op is Op.UPDATE and subject.old is not None and visible is not EVERYBODY:
            leaving = [
                [connection for connection in group if connection.leave]
                for group in _groups(answer.visible[subject.old], everybody, without=visible)
            ]
            if any(leaving):
                frame = _delete_frame(subject, answer.columns)
                yield Dispatch(order, frame, [group for group in leaving if group])

    def _notice(
        self, question: _Question, groups: Sequence[Sequence[Connection]], message: str
    ) -> None:
        """Tell connections that their own policy or role fails, now and then at the most."""
        now = time.monotonic()
        if len(self._noticed) > 10_000:
            self._noticed = {
                key: at for key, at in self._noticed.items() if now - at < _NOTICES_APART_SECONDS
            }
        frame = sse.error_frame(f"{sse.display_name(question.subscribers.table)}: {message}")
        for group in groups:
            for connection in group:
                key = (connection.client_id, message)
                if now - self._noticed.get(key, -_NOTICES_APART_SECONDS) >= _NOTICES_APART_SECONDS:
                    self._noticed[key] = now
                    connection.write(frame)


def _may_mean_others(change: Change, rules: Rules) -> bool:
    return any(
        image is not None and rules.means_others(image, change.seq, is_whole=not change.truncated)
        for image in (change.new_image, change.old_image)
    )


def _groups(
    visible: Visible, everybody: Sequence[Sequence[Connection]], *, without: Visible = frozenset()
) -> Sequence[Sequence[Connection]]:
    if without is EVERYBODY:
        return []
    if visible is EVERYBODY:
        return (
            [group for n, group in enumerate(everybody) if n not in without]
            if without
            else everybody
        )
    return [everybody[n] for n in visible if n not in without]


def _frame(subject: _Subject, columns: frozenset[str] | None) -> bytes:
    change, content = subject.change, subject.content
    if change.op is Op.TRUNCATE:
        return sse.truncate_frame(subject.position, content.table)
    if change.lost:
        return _lost_frame(subject)
    if change.op is Op.DELETE:
        return _delete_frame(subject, columns)
    image = change.new_image
    if image is None:
        return _lost_frame(subject)
    try:
        if change.truncated:
            shown = projection.key_record(image, content.key, columns)
        else:
            shown = projection.record(image, columns)
    except msgspec.DecodeError:
        return _lost_frame(subject)
    return sse.data_frame(
        subject.position,
        "create" if change.op is Op.CREATE else "update",
        content.table,
        shown,
        truncated=change.truncated,
    )


def _delete_frame(subject: _Subject, columns: frozenset[str] | None) -> bytes:
    image = subject.change.old_image
    if image is None:
        return _lost_frame(subject)
    try:
        shown = projection.key_record(image, subject.content.key, columns)
    except msgspec.DecodeError:
        return _lost_frame(subject)
    return sse.data_frame(subject.position, "delete", subject.content.table, shown)


def _lost_frame(subject: _Subject) -> bytes:
    return sse.resync_frame(subject.position, "overflow", [subject.content.table])
