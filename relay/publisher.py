"""Publishing to every Redis: table messages, then the tick, in one pipeline.

Each target has its own queue and task, so that one region never waits for another. A target that is
down, or too slow for its queue, misses batches: the numbers tell the gateways, and they read the
outbox. The log goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from shared import signature
from shared.backoff import Backoff
from shared.change import encode
from shared.channels import Channels
from shared.redis import UNAVAILABLE, describe, heed_cancellation, redis_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from relay.metrics import RelayMetrics
    from shared.change import Batch

log = structlog.get_logger(__name__)

Note = Callable[[str, str | None], object]
"""Shows what an operator should know about a part, or with None that there is nothing."""

_PIPELINE_BYTES: Final = 4 * 1024 * 1024
_ROOM_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Parcel:
    """All messages of one batch, as (channel, payload)."""

    messages: tuple[tuple[str, bytes], ...]
    size: int


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
            Target(url, queue_bytes=queue_bytes, metrics=metrics, note=note) for url in urls
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

    def publish(self, batch: Batch) -> None:
        """Hand a batch to every target; `begin` has been called."""
        messages = [
            (self._channels.table(message.content.table), encode(message))
            for message in batch.messages(self._history)
        ]
        tick = self._parcel([(self._channels.tick, encode(batch.tick(self._history)))])
        parcel = self._parcel(messages)
        parcel = _Parcel(parcel.messages + tick.messages, parcel.size + tick.size)
        self._last_tick = tick
        for target in self._targets:
            target.put(parcel)

    def announce(self, batch: Batch) -> None:
        """Hand the tick of a batch alone to every target."""
        tick = encode(batch.tick(self._history))
        self._last_tick = parcel = self._parcel([(self._channels.tick, tick)])
        for target in self._targets:
            target.put(parcel)

    def repeat_tick(self) -> None:
        """Repeat the last tick, as a sign of life."""
        if self._last_tick is not None:
            for target in self._targets:
                target.put(self._last_tick, is_batch=False)

    async def room(self) -> None:
        """Wait a moment for targets that keep up, so that a burst need not be dropped."""
        waiting = [target for target in self._targets if target.is_filling]
        if not waiting:
            return
        try:
            async with asyncio.timeout(_ROOM_SECONDS):
                for target in waiting:
                    await target.drained()
        except TimeoutError:
            for target in waiting:
                if target.is_filling:
                    target.overflow()

    def _parcel(self, messages: Sequence[tuple[str, bytes]]) -> _Parcel:
        if self._key is not None:
            key = self._key
            messages = [(name, signature.sign(key, name, data)) for name, data in messages]
        return _Parcel(tuple(messages), sum(len(data) for _, data in messages))


class Target:
    """One Redis, its queue, and the task that empties it."""

    def __init__(self, url: str, *, queue_bytes: int, metrics: RelayMetrics, note: Note) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
        self._url = url
        self._most_bytes = queue_bytes
        self._metrics = metrics
        self._queue: deque[tuple[_Parcel, bool]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._up = False
        self._trouble: str | None = None
        self._note = note

    @property
    def is_filling(self) -> bool:
        """Whether it works, but with more than half of its queue full."""
        return self._up and self._bytes > self._most_bytes // 2

    def put(self, parcel: _Parcel, *, is_batch: bool = True) -> None:
        """Queue messages; those of a target that is down or full are dropped."""
        if not self._up or (self._bytes and self._bytes + parcel.size > self._most_bytes):
            self._drop(is_batch=is_batch)
            return
        self._queue.append((parcel, is_batch))
        self._bytes += parcel.size
        if self._bytes > self._most_bytes // 2:
            self._has_room.clear()
        self._filled.set()

    async def drained(self) -> None:
        """Wait until the queue is at most half full."""
        await self._has_room.wait()

    def overflow(self) -> None:
        """Drop what waits: the gateways read it from the outbox."""
        log.warning("redis is too slow: batches are left to the outbox", target=self.name)
        for _, is_batch in self._queue:
            self._drop(is_batch=is_batch)
        self._clear()

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
                self._clear()
            finally:
                await _close(client)
            await asyncio.sleep(backoff.next_seconds())

    async def _publish(self, client: Redis) -> None:
        while True:
            await self._filled.wait()
            messages: list[tuple[str, bytes]] = []
            size = 0
            while self._queue and size < _PIPELINE_BYTES:
                parcel, _ = self._queue.popleft()
                messages.extend(parcel.messages)
                size += parcel.size
            self._bytes -= size
            if self._bytes <= self._most_bytes // 2:
                self._has_room.set()
            if not self._queue:
                self._filled.clear()
            pipeline = client.pipeline(transaction=False)
            for channel, payload in messages:
                pipeline.publish(channel, payload)
            await pipeline.execute()
            heed_cancellation()
            self._metrics.published.labels(self.name).inc(len(messages))

    def _note_trouble(self, error: str) -> None:
        """Log a failure once, and again when its reason changes; show it in readiness."""
        if error != self._trouble:
            self._trouble = error
            log.warning("redis unavailable", target=self.name, error=error)
            self._note(f"redis {self.name}", f"{error}; gateways there poll the outbox")

    def _set_up(self, up: bool) -> None:
        if up and not self._up:
            log.info("redis connected", target=self.name)
            self._trouble = None
            self._note(f"redis {self.name}", None)
        self._up = up
        self._metrics.redis_up.labels(self.name).set(up)

    def _clear(self) -> None:
        self._queue.clear()
        self._bytes = 0
        self._has_room.set()
        self._filled.clear()

    def _drop(self, *, is_batch: bool) -> None:
        if is_batch:
            self._metrics.unpublished.labels(self.name).inc()


async def _close(client: Redis) -> None:
    try:
        async with asyncio.timeout(1.0):
            await client.aclose()
    except UNAVAILABLE:
        pass
