"""Publishing to every Redis: the table messages of a batch, then its tick.

Each target has its own queue and tasks, so that one region never waits for another. Messages are
sent without waiting for the answers to the ones before, up to a window of bytes. A queue is bounded
in bytes and in seconds. A target that is down, or too slow for its queue, misses batches: their
numbers show that to the gateways, which read the outbox. The log goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared import signature
from shared.backoff import Backoff
from shared.change import encode
from shared.channels import Channels
from shared.compression import compress
from shared.redis import (
    UNAVAILABLE,
    close_client,
    describe,
    follow_master,
    heed_cancellation,
    redis_client,
)
from shared.redis_target import Content, RedisTarget
from shared.tasks import end
from shared.tracing import NO_SPAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

    from relay.metrics import RelayMetrics
    from shared.change import Batch
    from shared.tracing import Span

log = structlog.get_logger(__name__)

Note = Callable[[str, str | None], object]
"""Shows what an operator should know about a part, or with None that there is nothing."""

WINDOW_BYTES: Final = 256 * 1024
"""So much may be sent and unanswered: two seconds at 1 Mbit/s."""

QUEUE_SECONDS: Final = 1.5
"""What has waited longer is dropped: gateways have it from the outbox sooner."""

_ROOM_SECONDS: Final = 0.25
_PROBE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Parcel:
    """All messages of one batch, as (channel, payload); without any it is a PING."""

    messages: tuple[tuple[str, bytes], ...]
    size: int

    def with_tick(self, tick: _Parcel) -> _Parcel:
        """Return the messages, and after them the tick that announces them."""
        return _Parcel(self.messages + tick.messages, self.size + tick.size)

    @property
    def commands(self) -> list[tuple[str | bytes, ...]]:
        """The commands to send."""
        return [("PUBLISH", *message) for message in self.messages] or [("PING",)]


@dataclass(frozen=True, slots=True)
class _Queued:
    """A parcel in a queue, whether it is a batch (or a repeated tick), since when, and its span."""

    parcel: _Parcel
    is_batch: bool
    at: float
    span: Span = NO_SPAN


class Publisher:
    """Publishes batches and ticks to all targets."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        key: bytes | None,
        channel_prefix: str | None,
        queue_bytes: int,
        metrics: RelayMetrics,
        note: Note,
    ) -> None:
        self._key = key
        self._channel_prefix = channel_prefix
        self._history = ""
        self._channels = Channels("")
        self._targets = [
            Target(RedisTarget.of(url), queue_bytes=queue_bytes, metrics=metrics, note=note)
            for url in urls
        ]
        self._last_tick: _Parcel | None = None

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for target in self._targets:
                group.create_task(target.run(), name=f"publish to {target.name}")

    def begin(self, history: str) -> None:
        """Publish the batches of this history from now on, on its channels."""
        self._history = history
        self._channels = Channels.of(history, self._channel_prefix)
        self._last_tick = None

    def publish(self, batch: Batch, span: Span = NO_SPAN) -> None:
        """Hand a batch to every target; `begin` has been called.

        The tick carries the trace of `span` on, and each target's part has a span within it.
        """
        self._last_tick = tick = self._tick_of(batch, span.traceparent)
        parcels = {Content.TICKS: tick}
        wanted = {target.content for target in self._targets}
        if wanted != {Content.TICKS}:
            messages = [
                (self._channels.table(message.content.table), encode(message))
                for message in batch.messages(self._history)
            ]
            if Content.ALL in wanted:
                parcels[Content.ALL] = self._parcel(messages).with_tick(tick)
            if Content.COMPRESSED in wanted:
                small = [(channel, compress(data)) for channel, data in messages]
                parcels[Content.COMPRESSED] = self._parcel(small).with_tick(tick)
        for target in self._targets:
            target.put(parcels[target.content], span=span)

    def announce(self, batch: Batch) -> None:
        """Hand the tick of a batch alone to every target."""
        self._last_tick = tick = self._tick_of(batch)
        for target in self._targets:
            target.put(tick)

    def send(self, channel: str, payload: bytes) -> None:
        """Hand a message that belongs to no batch to every target."""
        parcel = self._parcel([(channel, payload)])
        for target in self._targets:
            target.put(parcel, is_batch=False)

    def repeat_tick(self) -> None:
        """Repeat the last tick, as a sign of life."""
        if self._last_tick is not None:
            for target in self._targets:
                target.put(self._last_tick, is_batch=False)

    @property
    def targets_up(self) -> int:
        """How many targets work."""
        return sum(target.is_up for target in self._targets)

    async def settle(self, seconds: float) -> None:
        """Wait until every target that works has answered everything, at most this long."""
        if working := [target for target in self._targets if target.is_up]:
            waits = [asyncio.ensure_future(target.settled()) for target in working]
            try:
                await asyncio.wait(waits, timeout=seconds)
            finally:
                for wait in waits:
                    wait.cancel()

    async def room(self) -> None:
        """Wait a moment if every target that works is behind, so that a burst need not be dropped.

        One that keeps up is never delayed by another.
        """
        working = [target for target in self._targets if target.is_up]
        if not working or not all(target.is_filling for target in working):
            return
        waits = [asyncio.ensure_future(target.drained()) for target in working]
        try:
            await asyncio.wait(waits, timeout=_ROOM_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _tick_of(self, batch: Batch, trace: str = "") -> _Parcel:
        return self._parcel([(self._channels.tick, encode(batch.tick(self._history, trace)))])

    def _parcel(self, messages: Sequence[tuple[str, bytes]]) -> _Parcel:
        if self._key is not None:
            key = self._key
            messages = [(name, signature.sign(key, name, data)) for name, data in messages]
        return _Parcel(tuple(messages), sum(len(data) for _, data in messages))


class Target:
    """One Redis, its queue, and the tasks that empty it."""

    def __init__(
        self, redis: RedisTarget, *, queue_bytes: int, metrics: RelayMetrics, note: Note
    ) -> None:
        self.name = redis.name
        self.content = redis.content
        self.is_up = False
        """Whether the last exchange with this Redis succeeded."""
        self._url = redis.url
        self._put_at = float("-inf")
        self._most_bytes = queue_bytes
        self._metrics = metrics
        self._queue: deque[_Queued] = deque()
        self._bytes = 0
        self._sent: deque[_Queued] = deque()
        self._sent_bytes = 0
        self._filled = asyncio.Event()
        self._is_awaited = asyncio.Event()
        self._has_window = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._has_settled = asyncio.Event()
        self._has_settled.set()
        self._is_slow = False
        self._trouble: str | None = None
        self._note = note

    @property
    def is_filling(self) -> bool:
        """Whether more than half of its queue is full."""
        return self._bytes > self._most_bytes // 2

    def put(self, parcel: _Parcel, *, is_batch: bool = True, span: Span = NO_SPAN) -> None:
        """Queue messages. A target that is down drops them, one that is too slow its queue."""
        if span.is_recording:
            span = span.child(
                "publish",
                {
                    "messaging.system": "redis",
                    "ayb.redis": self.name,
                    "ayb.messages": len(parcel.messages),
                    "ayb.bytes": parcel.size,
                },
                kind="producer",
            )
        else:
            span = NO_SPAN
        if not self.is_up:
            self._drop(_Queued(parcel, is_batch, 0.0, span), "redis is down")
            return
        now = time.monotonic()
        is_late = self._queue and now - self._queue[0].at > QUEUE_SECONDS
        if is_late or (self._queue and self._bytes + parcel.size > self._most_bytes):
            self._overflow()
        self._queue.append(_Queued(parcel, is_batch, now, span))
        self._bytes += parcel.size
        self._put_at = now
        self._has_settled.clear()
        if self.is_filling:
            self._has_room.clear()
        self._filled.set()
        self._measure(now)

    async def settled(self) -> None:
        """Wait until nothing is queued or unanswered."""
        await self._has_settled.wait()

    async def drained(self) -> None:
        """Wait until the queue is at most half full."""
        await self._has_room.wait()

    async def run(self) -> None:
        """Connect and publish until cancelled."""
        backoff = Backoff(most_seconds=2.0)
        while True:
            client = redis_client(self._url)
            try:
                await client.ping()
                heed_cancellation()
                self._set_up(True)
                backoff.reset()
                await self._publish(client)
            except UNAVAILABLE as error:
                heed_cancellation()
                self._note_trouble(describe(error, self._url))
                self._set_up(False)
                self._drop_queue()
            finally:
                await close_client(client)
            await asyncio.sleep(backoff.next_seconds())

    async def _publish(self, client: Redis) -> None:
        connection: AbstractConnection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        # No task group: in Python 3.11 one whose task fails leaves this task marked as cancelled.
        tasks = [
            asyncio.create_task(self._send(connection), name=f"send to {self.name}"),
            asyncio.create_task(self._receive(connection), name=f"answers of {self.name}"),
            asyncio.create_task(self._probe(), name=f"probe {self.name}"),
            asyncio.create_task(follow_master(client), name=f"master of {self.name}"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(tasks)
            await client.connection_pool.release(connection)
        errors = [task.exception() for task in tasks if not task.cancelled()]
        for error in sorted(errors, key=lambda error: not isinstance(error, UNAVAILABLE)):
            if error is not None:
                raise error

    async def _probe(self) -> None:
        """Notice that this Redis is away although nothing is published, as while standing by."""
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            if time.monotonic() - self._put_at >= _PROBE_SECONDS:
                self.put(_Parcel((), 0), is_batch=False)

    async def _send(self, connection: AbstractConnection) -> None:
        while True:
            await self._filled.wait()
            while self._sent and self._sent_bytes >= WINDOW_BYTES:
                self._has_window.clear()
                await self._has_window.wait()
            now = time.monotonic()
            if self._queue and now - self._queue[0].at > QUEUE_SECONDS:
                self._overflow()
            commands: list[tuple[str | bytes, ...]] = []
            while self._queue and (not commands or self._sent_bytes < WINDOW_BYTES):
                queued = self._queue.popleft()
                self._bytes -= queued.parcel.size
                self._sent.append(queued)
                self._sent_bytes += queued.parcel.size
                commands.extend(queued.parcel.commands)
            if not self.is_filling:
                self._has_room.set()
            if not self._queue:
                self._filled.clear()
            self._measure(now)
            if not commands:
                continue
            self._is_awaited.set()
            await connection.send_packed_command(connection.pack_commands(commands))

    async def _receive(self, connection: AbstractConnection) -> None:
        while True:
            await self._is_awaited.wait()
            parcel = self._sent[0].parcel
            for _ in parcel.commands:
                # The connection is ended by `_publish`, not under the sender's hands.
                await connection.read_response(disconnect_on_error=False)
            sent = self._sent.popleft()
            self._sent_bytes -= sent.parcel.size
            self._has_window.set()
            self._is_slow = False
            if not self._sent:
                self._is_awaited.clear()
                if not self._queue:
                    self._has_settled.set()
            self._metrics.published.labels(self.name).inc(len(parcel.messages))
            sent.span.end()

    def _overflow(self) -> None:
        """Drop what waits: the gateways read it from the outbox."""
        if not self._is_slow:
            self._is_slow = True
            log.warning("redis is too slow: batches are left to the outbox", target=self.name)
        for queued in self._queue:
            self._drop(queued, "redis is too slow")
        self._queue.clear()
        self._bytes = 0
        self._has_room.set()
        if not self._sent:
            self._has_settled.set()
        self._filled.clear()

    def _drop_queue(self) -> None:
        """Drop what waits, and what was sent without an answer."""
        for queued in (*self._sent, *self._queue):
            self._drop(queued, "redis failed")
        self._sent.clear()
        self._queue.clear()
        self._bytes = self._sent_bytes = 0
        self._has_room.set()
        self._filled.clear()
        self._is_awaited.clear()
        self._has_settled.set()
        self._measure(time.monotonic())

    def _measure(self, now: float) -> None:
        self._metrics.queue_bytes.labels(self.name).set(self._bytes + self._sent_bytes)
        oldest = next(iter(self._sent or self._queue), None)
        age = 0.0 if oldest is None else now - oldest.at
        self._metrics.queue_seconds.labels(self.name).set(age)

    def _note_trouble(self, error: str) -> None:
        """Log a failure once, and again when its reason changes; show it in readiness."""
        if error != self._trouble:
            self._trouble = error
            log.warning("redis unavailable", target=self.name, error=error)
            self._note(f"redis {self.name}", f"{error}; gateways there poll the outbox")

    def _set_up(self, up: bool) -> None:
        if up and not self.is_up:
            log.info("redis connected", target=self.name)
            self._trouble = None
            self._note(f"redis {self.name}", None)
        self.is_up = up
        self._metrics.redis_up.labels(self.name).set(up)

    def _drop(self, queued: _Queued, reason: str) -> None:
        if queued.is_batch:
            self._metrics.unpublished.labels(self.name).inc()
        queued.span.fail(reason)
        queued.span.end()
