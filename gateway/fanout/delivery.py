"""From batches to bytes on sockets: each client gets what it may see, in commit order.

For each table and role one question is asked for all events of the merged batches and all
connections. Then the events of all tables are put in their order (batch, index), each is written
once as bytes, and these bytes are shared by everyone who gets it. A connection gets an event only
if its cursor stands before it, so nothing is delivered twice, whatever was read again.

Judging writes nothing, not even an error: it may fail at one table after another has been answered,
and is then repeated as a whole. What it found out is written at once afterwards.

The questions of a portion run side by side, and those of one table in order. A table that is not
answered about within the patience of the round (`Pace`), or fails by itself, is given up: nothing
of the portion is written to its connections, which follow in a lane of the table
(`gateway.fanout.lane`), and everyone else gets theirs. As many questions run at once as leave the
pool room for other queries; those of lanes have a share of their own, which they cannot exceed.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from gateway.fanout.dispatch import Judged, Notice, Run, runs_of
from gateway.fanout.portion_trace import trace_portion
from gateway.fanout.routing import Subject, images_to_ask, route, route_to_all
from gateway.fanout.slow_tables import PATIENCE_SECONDS
from gateway.fanout.subscriptions import OPEN_ROLE
from gateway.streams import sse
from gateway.streams.frame import Frame
from gateway.visibility.engine import Image
from gateway.visibility.question_errors import (
    PolicyStallsError,
    RulesStallError,
)
from shared.errors import DatabaseUnavailableError
from shared.tracing import NO_TRACING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.dispatch import Dispatch
    from gateway.fanout.portion_trace import Path
    from gateway.fanout.routing import Deletes, WholeImages
    from gateway.fanout.slow_tables import SlowTables, TableRole
    from gateway.fanout.subscriptions import Subscriptions, TableSubscribers
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Connection
    from gateway.visibility.cohorts import Audience
    from gateway.visibility.engine import Visibility
    from shared.change import Batch
    from shared.tracing import Attributes, Span, Tracing

_STEPS_BETWEEN_YIELDS: Final = 20_000
_WRITES_BETWEEN_YIELDS: Final = 1_000
_MOST_STAGED: Final = 1_000_000
"""Deliveries that are staged, at 8 bytes each, before they are written and staging goes on."""
_NOTICES_APART_SECONDS: Final = 60.0
_MOST_WHOLE_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the questions of a portion wait for one another.

    `own` is the table of the lane that asks, and is waited for however long it takes; any other
    table, for `patience_seconds`. `may_postpone` allows a question to leave out connections: those
    of users who take the time of the others, and those for which the time does not suffice.
    """

    own: TableRole | None = None
    patience_seconds: float = PATIENCE_SECONDS
    may_postpone: bool = False


LIVE: Final = Pace()
"""That of the live round, and of replay to connections without a slow table."""


@dataclass(slots=True)
class _Question:
    """What is asked about one table for one role."""

    subscribers: TableSubscribers
    relid: int
    audience: Audience[Connection]
    lsn: int
    subjects: list[Subject] = field(default_factory=list)
    recorded_at: set[float] = field(default_factory=set)
    began_at: float | None = None
    parts: Sequence[Judged] | None = None
    failure: DatabaseUnavailableError | None = None

    @property
    def table(self) -> TableRole:
        return self.subscribers.table, self.audience.role

    @property
    def fails_alone(self) -> bool:
        """Whether what it failed with is the table's own trouble."""
        return isinstance(self.failure, PolicyStallsError | RulesStallError)


class Delivery:
    """Judges batches for subscriptions and writes the result to their connections."""

    def __init__(
        self,
        *,
        visibility: Visibility | None,
        backlog: Backlog,
        deletes: Deletes,
        metrics: GatewayMetrics,
        slow_tables: SlowTables,
        pool_connections: int,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._tracing = tracing
        self._visibility = visibility
        self._backlog = backlog
        self._deletes: Deletes = deletes
        self._metrics = metrics
        self._slow_tables = slow_tables
        of_lanes = max(1, pool_connections // 3)
        self._lane_slots = asyncio.Semaphore(of_lanes)
        self._slots = asyncio.Semaphore(max(1, pool_connections - of_lanes - 1))

    def trace(self, batches: Sequence[Batch], path: Path) -> AbstractContextManager[Span]:
        """Return the span that judging and writing batches is within."""
        return trace_portion(self._tracing, batches, path)

    async def judge(
        self, batches: Sequence[Batch], subscriptions: Subscriptions, pace: Pace = LIVE
    ) -> Judged:
        """Decide who gets what, in order; what is given up or postponed is left out.

        Raises `DatabaseUnavailableError` while Postgres cannot be asked. Nothing has been written
        then, and the same may be asked again.
        """
        questions = _questions(batches, subscriptions)
        if not questions:
            return Judged()
        await self._ask_all(questions, pace)
        given_up = self._given_up(questions, pace)
        parts = [part for question in questions for part in question.parts or ()]
        return Judged(
            _in_order(questions),
            [notice for part in parts for notice in part.notices],
            given_up,
            _postponed(parts),
            frozenset(
                (self._form_of(question), at)
                for question in questions
                if question.parts is not None
                for at in question.recorded_at
            ),
            sum(len(question.subjects) for question in questions),
        ).for_the_others()

    def _form_of(self, question: _Question) -> str:
        """Return the form in which a question was asked: the class of its table."""
        if self._visibility is None or question.audience.role == OPEN_ROLE:
            return "unfiltered"
        plan = self._visibility.plan_of(question.relid, question.audience.role)
        return "gone" if plan is None else str(plan.form)

    async def write(self, judged: Judged) -> int:
        """Write to each connection what it does not have yet, in one piece; return how many events.

        What is taken back meanwhile is not written.
        """
        for notice in judged.notices:
            self._write_notice(notice)
        for dispatch in judged.dispatches:
            if dispatch.is_resync:
                asked = sum(len(group) for group in dispatch.groups)
                self._metrics.resyncs.labels("overflow").inc(asked)
        runs = runs_of(judged.dispatches)
        with self._tracing.child("write") as span:
            if len(runs) == 1:
                events = await self._send(runs[0])
            else:
                touched: list[Connection] = []
                events = await self._stage(runs, touched)
                await self._flush(touched)
            span.note({"ayb.events": len(judged.dispatches), "ayb.deliveries": events})
        return events

    async def _send(self, run: Run) -> int:
        """Write a run that is all there is to write, without staging it."""
        first, last, frame = run.first, run.last, run.frame
        clock, now = time.time(), time.monotonic()
        count, events = len(run.dispatches), 0
        recipients = run.recipients()
        for start in range(0, len(recipients), _WRITES_BETWEEN_YIELDS):
            if start:
                await asyncio.sleep(0)
            if self._backlog.is_cut(last):
                return events + await self._send_parts(run)
            for connection in recipients[start : start + _WRITES_BETWEEN_YIELDS]:
                if connection.cursor < first:
                    connection.cursor = last
                    events += count
                    if clock < connection.ends_at:
                        connection.send(frame, now)
                    else:
                        connection.expire()
                elif rest := run.rest_for(connection):
                    events += len(rest)
                    connection.advance(last)
                    if clock < connection.ends_at:
                        connection.send(Frame(b"".join([d.frame for d in rest])), now)
                    else:
                        connection.expire()
        return events

    async def _send_parts(self, run: Run) -> int:
        """Write of a run what the end of its epoch has left standing."""
        standing = [d for d in run.dispatches if not self._backlog.is_cut(d.cursor)]
        return await self._send(runs_of(standing)[0]) if standing else 0

    async def _stage(self, runs: Sequence[Run], touched: list[Connection]) -> int:
        is_cut = self._backlog.is_cut
        steps = staged = events = 0
        for run in runs:
            first, last, frame = run.first, run.last, run.frame
            count = len(run.dispatches)
            if is_cut(last):
                standing = [d for d in run.dispatches if not is_cut(d.cursor)]
                if standing:
                    events += await self._stage(runs_of(standing), touched)
                continue
            recipients = run.recipients()
            for connection in recipients:
                if connection.cursor < first:
                    connection.cursor = last
                    if connection.staged is None:
                        touched.append(connection)
                        connection.stage(frame)
                    else:
                        connection.staged.append(frame)
                    events += count
                elif rest := run.rest_for(connection):
                    if connection.staged is None:
                        touched.append(connection)
                    for dispatch in rest:
                        connection.stage(Frame(dispatch.frame))
                    connection.advance(last)
                    events += len(rest)
            steps += len(recipients)
            staged += len(recipients)
            if staged > _MOST_STAGED:
                staged = 0
                await self._flush(touched)
                touched.clear()
            if steps > _STEPS_BETWEEN_YIELDS:
                steps = 0
                await asyncio.sleep(0)
        return events

    async def _flush(self, touched: Sequence[Connection]) -> None:
        is_cut = self._backlog.is_cut
        clock = time.time()
        for number, connection in enumerate(touched, 1):
            if clock >= connection.ends_at:
                connection.expire()
            elif is_cut(connection.cursor):
                connection.unstage()  # its `resync` is to come
            else:
                connection.flush()
            if number % _WRITES_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)

    async def _ask_all(self, questions: Sequence[_Question], pace: Pace) -> None:
        """Ask side by side, until each is answered, has failed, or has used up the patience."""
        asking = []
        for question in questions:
            if self._visibility is None or question.audience.role == OPEN_ROLE:
                members = question.audience.grouped(()).members
                question.parts = [route_to_all(question.subjects, members)]
            else:
                asking.append(self._ask(self._visibility, question, pace))
        if len(asking) == 1:
            await asking[0]
        else:
            async with asyncio.TaskGroup() as group:
                for ask in asking:
                    group.create_task(ask, name="question")

    def _given_up(self, questions: Sequence[_Question], pace: Pace) -> frozenset[TableRole]:
        """Return the tables that others do not wait for; raise where Postgres cannot be asked.

        An error of the database that only some of the tables meet is theirs.
        """
        failed = [question for question in questions if question.failure is not None]
        is_answering = any(question.parts is not None for question in questions)
        for question in failed:
            assert question.failure is not None  # noqa: S101
            if question.table == pace.own or not (is_answering or question.fails_alone):
                raise question.failure
        now = time.monotonic()
        given_up = [question for question in questions if question.parts is None]
        for question in given_up:
            self._slow_tables.note(
                question.table, max(PATIENCE_SECONDS, _since(question, now)), now
            )
        return frozenset(question.table for question in given_up)

    async def _ask(self, visibility: Visibility, question: _Question, pace: Pace) -> None:
        """Ask until it is answered, has failed, or has used up the patience that it is given."""
        patience = None if question.table == pace.own else pace.patience_seconds
        async with self._slots if pace.own is None else self._lane_slots:
            question.began_at = time.monotonic()
            try:
                async with asyncio.timeout(patience) as asking:
                    with self._tracing.child("visibility") as span:
                        if span.is_recording:
                            span.note(self._described(question))
                        question.parts = [
                            await self._ask_piece(visibility, question, subjects, whole, pace)
                            async for subjects, whole in self._pieces(question.subjects)
                        ]
                        if span.is_recording:  # the rules may have been read only now
                            span.note(self._described(question))
            except TimeoutError:
                if not asking.expired():
                    raise
            except DatabaseUnavailableError as error:
                question.failure = error
            else:
                now = time.monotonic()
                if pace.own is not None:
                    self._slow_tables.note(question.table, _since(question, now), now)

    def _described(self, question: _Question) -> Attributes:
        table, role = question.table
        return {
            "ayb.table": table,
            "ayb.role": role,
            "ayb.form": self._form_of(question),
            "ayb.changes": len(question.subjects),
        }

    async def _ask_piece(
        self,
        visibility: Visibility,
        question: _Question,
        subjects: Sequence[Subject],
        whole: WholeImages,
        pace: Pace,
    ) -> Judged:
        images: list[Image] = []
        for subject in subjects:
            new, old = images_to_ask(
                subject,
                whole,
                wants_leaves=question.subscribers.wants_leaves,
                deletes=self._deletes,
            )
            if new is not None:
                subject.new = len(images)
                images.append(Image(new, subject.change.seq))
            if old is not None:
                subject.old = len(images)
                images.append(Image(old, subject.change.seq, is_past=True))
        began = time.monotonic()
        answer = await visibility.ask(
            question.relid, question.audience, images, question.lsn, may_postpone=pace.may_postpone
        )
        self._metrics.judged_seconds.observe(time.monotonic() - began)
        judged = route(question.subscribers.table, subjects, answer, self._deletes)
        members = answer.grouping.members
        postponed = {
            connection: question.table if n in answer.costly else None
            for n in answer.postponed
            for connection in members[n]
        }
        return replace(judged, postponed=postponed) if postponed else judged

    async def _pieces(
        self, subjects: Sequence[Subject]
    ) -> AsyncIterator[tuple[Sequence[Subject], WholeImages]]:
        """Cut the subjects of a question so that their whole images fit in memory.

        Images that were too large for the bus are fetched from the outbox, since policies may read
        all of them: a bounded number of bytes at a time, but one change at least.
        """
        truncated = [subject.change.seq for subject in subjects if subject.change.truncated]
        if not truncated:
            yield subjects, {}
            return
        sizes = await self._backlog.image_bytes(truncated)
        for piece in _pieces_of(subjects, sizes):
            seqs = [subject.change.seq for subject in piece if subject.change.truncated]
            yield piece, await self._backlog.whole_images(seqs) if seqs else {}

    def _write_notice(self, notice: Notice) -> None:
        """Report an error, for each connection and table once in a while at most.

        What a connection has missed is made good later: see `gateway.fanout.heartbeat`.
        """
        now = time.monotonic()
        frame = sse.error_frame(f"{sse.display_name(notice.table)}: {notice.message}")
        for group in notice.groups:
            for connection in group:
                if notice.has_missed:
                    connection.miss(notice.table, now)
                if connection.may_report(notice.table, now, _NOTICES_APART_SECONDS):
                    connection.write(frame)


def _postponed(parts: Sequence[Judged]) -> dict[Connection, TableRole | None]:
    postponed: dict[Connection, TableRole | None] = {}
    for part in parts:
        for connection, table in part.postponed.items():
            postponed[connection] = table or postponed.get(connection)
    return postponed


def _in_order(questions: Sequence[_Question]) -> list[Dispatch]:
    """Return the dispatches in the order of their positions, role after role.

    A connection has one role. Without those of other roles between them, more dispatches follow
    each other that have the same recipients.
    """
    by_role: dict[str, list[Dispatch]] = {}
    for question in questions:
        of_role = by_role.setdefault(question.audience.role, [])
        of_role.extend(dispatch for part in question.parts or () for dispatch in part.dispatches)
    return [
        dispatch
        for of_role in by_role.values()
        for dispatch in sorted(of_role, key=lambda dispatch: dispatch.cursor)
    ]


def _since(question: _Question, now: float) -> float:
    return 0.0 if question.began_at is None else now - question.began_at


def _questions(batches: Sequence[Batch], subscriptions: Subscriptions) -> list[_Question]:
    found: dict[tuple[str, int, str], _Question] = {}
    lsn = max((batch.lsn for batch in batches), default=0)
    for batch in batches:
        for content in batch.tables:
            for subscribers in subscriptions.of(content.table, content.relid):
                for role, audience in subscribers.audiences.items():
                    key = (subscribers.table, content.relid, role)
                    question = found.get(key)
                    if question is None:
                        question = _Question(subscribers, content.relid, audience, lsn)
                        found[key] = question
                    question.recorded_at.add(batch.at)
                    question.subjects.extend(
                        Subject.of(batch.epoch, batch.id, content, change)
                        for change in content.changes
                    )
    return list(found.values())


def _pieces_of(subjects: Sequence[Subject], sizes: Mapping[int, int]) -> Iterator[list[Subject]]:
    piece: list[Subject] = []
    size = 0
    for subject in subjects:
        more = sizes.get(subject.change.seq, 0) if subject.change.truncated else 0
        if piece and more and size + more > _MOST_WHOLE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(subject)
        size += more
    yield piece
