"""From batches to bytes on sockets: each client gets what it may see, in commit order.

For each table and role one question is asked for all events of the merged batches and all
connections. Then the events of all tables are put in their order (batch, index), each is written
once as bytes, and these bytes are shared by everyone who gets it. A connection gets an event only
if its cursor stands before it, so nothing is delivered twice, whatever was read again.

Judging writes nothing, not even an error: it may fail at one table after another has been answered,
and is then repeated as a whole. What it found out is written at once afterwards.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.fanout.dispatch import Dispatch, Judged, Notice
from gateway.fanout.routing import Subject, images_to_ask, route, route_to_all
from gateway.fanout.subscriptions import OPEN_ROLE
from gateway.streams import sse
from gateway.visibility.engine import Image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.routing import Deletes, WholeImages
    from gateway.fanout.subscriptions import Subscriptions, TableSubscribers
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Connection
    from gateway.visibility.cohorts import Audience
    from gateway.visibility.engine import Visibility
    from shared.change import Batch

_STEPS_BETWEEN_YIELDS: Final = 20_000
_WRITES_BETWEEN_YIELDS: Final = 1_000
_NOTICES_APART_SECONDS: Final = 60.0
_MOST_WHOLE_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class _Question:
    """What is asked about one table for one role."""

    subscribers: TableSubscribers
    relid: int
    audience: Audience[Connection]
    subjects: list[Subject] = field(default_factory=list)


class Delivery:
    """Judges batches for subscriptions and writes the result to their connections."""

    def __init__(
        self,
        *,
        visibility: Visibility | None,
        backlog: Backlog,
        deletes: Deletes,
        metrics: GatewayMetrics,
    ) -> None:
        self._visibility = visibility
        self._backlog = backlog
        self._deletes: Deletes = deletes
        self._metrics = metrics

    async def judge(self, batches: Sequence[Batch], subscriptions: Subscriptions) -> Judged:
        """Decide who gets what, in order.

        Raises `DatabaseUnavailableError` (in a group, if several tables are asked about) while
        Postgres cannot be asked. Nothing has been written then, and the same may be asked again.
        """
        questions = _questions(batches, subscriptions)
        if not questions:
            return Judged()
        lsn = max(batch.lsn for batch in batches)
        if len(questions) == 1:
            parts = await self._ask(questions[0], lsn)
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(q, lsn)) for q in questions]
            parts = [part for task in tasks for part in task.result()]
        dispatches = [dispatch for part in parts for dispatch in part.dispatches]
        dispatches.sort(key=lambda dispatch: dispatch.cursor)
        return Judged(dispatches, [notice for part in parts for notice in part.notices])

    async def write(self, judged: Judged) -> int:
        """Write to each connection what it does not have yet, in one piece; return how many events.

        What is taken back meanwhile is not written.
        """
        for notice in judged.notices:
            self._write_notice(notice)
        touched: list[Connection] = []
        events = await self._stage(judged.dispatches, touched)
        await self._flush(touched)
        return events

    async def _stage(self, dispatches: Sequence[Dispatch], touched: list[Connection]) -> int:
        is_cut = self._backlog.is_cut
        steps = events = 0
        for dispatch in dispatches:
            cursor, until, frame = dispatch.cursor, dispatch.until, dispatch.frame
            if is_cut(cursor):
                continue
            for group in dispatch.groups:
                for connection in group:
                    if connection.cursor < cursor:
                        connection.cursor = cursor
                    elif connection.cursor >= until:
                        continue
                    if not connection.staged:
                        touched.append(connection)
                    connection.staged.append(frame)
                    events += 1
                steps += len(group)
                if steps > _STEPS_BETWEEN_YIELDS:
                    steps = 0
                    await asyncio.sleep(0)
        return events

    async def _flush(self, touched: Sequence[Connection]) -> None:
        is_cut = self._backlog.is_cut
        now = time.time()
        for number, connection in enumerate(touched, 1):
            if connection.expires_at is not None and now >= connection.expires_at:
                connection.expire()
            elif is_cut(connection.cursor):
                connection.staged.clear()  # its `resync` is to come
            else:
                connection.flush()
            if number % _WRITES_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)

    async def _ask(self, question: _Question, lsn: int) -> list[Judged]:
        if self._visibility is None or question.audience.role == OPEN_ROLE:
            return [route_to_all(question.subjects, question.audience.grouped(()).members)]
        return [
            await self._ask_piece(self._visibility, question, subjects, whole, lsn)
            async for subjects, whole in self._pieces(question.subjects)
        ]

    async def _ask_piece(
        self,
        visibility: Visibility,
        question: _Question,
        subjects: Sequence[Subject],
        whole: WholeImages,
        lsn: int,
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
                images.append(Image(new))
            if old is not None:
                subject.old = len(images)
                images.append(Image(old))
        began = time.monotonic()
        answer = await visibility.ask(question.relid, question.audience, images, lsn)
        self._metrics.judged_seconds.observe(time.monotonic() - began)
        return route(question.subscribers.table, subjects, answer, self._deletes)

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
        """Report an error, for each connection and table once in a while at most."""
        now = time.monotonic()
        frame = sse.error_frame(f"{sse.display_name(notice.table)}: {notice.message}")
        for group in notice.groups:
            for connection in group:
                reported_at = connection.reported.get(notice.table)
                if reported_at is None or now - reported_at >= _NOTICES_APART_SECONDS:
                    connection.reported[notice.table] = now
                    connection.write(frame)


def _questions(batches: Sequence[Batch], subscriptions: Subscriptions) -> list[_Question]:
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
