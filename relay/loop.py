"""Read, publish, idle: the relay's loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from relay.pace import LEAST_SECONDS, Pace
from relay.traces import begin_trace

if TYPE_CHECKING:
    from relay.health import Health
    from relay.metrics import RelayMetrics
    from relay.outbox.reader import Outbox
    from relay.publisher import Publisher
    from relay.session.leader import Leadership
    from relay.session.notify_queue import NotifyQueue
    from relay.session.wakeup import Listener, SleepLock
    from relay.session.watchdog import Watchdog
    from shared.tracing import Tracing

log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 1.0
"""How often an idle relay repeats its last tick, and reads, whether notified or not."""

_EMPTY_READS_BEFORE_SLEEP: Final = 5
_AWAKE_SECONDS: Final = 5.0
"""After this long without sleep and without changes, the relay polls at a slower pace."""

_SETTLE_SECONDS: Final = 0.5
_MISSED_WAKES: Final = 3
"""After this many in a row, notifications are assumed not to arrive any more."""


class Loop:
    """Moves changes from the outbox to the publisher, as they become visible."""

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        *,
        listener: Listener,
        sleep_lock: SleepLock,
        watchdog: Watchdog,
        leadership: Leadership,
        queue: NotifyQueue,
        health: Health,
        may_sleep: bool,
        poll_seconds: float,
        metrics: RelayMetrics,
        tracing: Tracing,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._listener = listener
        self._sleep_lock = sleep_lock
        self._watchdog = watchdog
        self._leadership = leadership
        self._queue = queue
        self._health = health
        self._may_sleep = may_sleep
        self._poll_seconds = poll_seconds
        self._metrics = metrics
        self._tracing = tracing
        self._ticked_at = 0.0
        self._full_reads = 0
        self._empty_reads = 0
        self._slept_in_silence = False
        self._missed_wakes = 0
        self._awake_since: float | None = None
        self._holders = ""
        self._pace = Pace()
        self._is_stopping = False

    async def run(self) -> None:
        """Run until this relay gives up the lead; raises what the database raises.

        It gives it up after `stop`, or to a relay that should lead instead. Batches recorded by
        then are published first, for half a second at most.
        """
        self._publisher.publish(await self._outbox.last_batch())
        self._ticked_at = time.monotonic()
        while not self._is_stopping and self._leadership.successor is None:
            await self.step()
        await self._publisher.settle(_SETTLE_SECONDS)
        with self._watchdog.asking():
            await self._leadership.release(self._leadership.successor)

    def stop(self) -> None:
        """Give up the lead after the batch under way."""
        self._is_stopping = True
        self._listener.wake()

    async def step(self) -> None:
        """Read once, and idle if there was nothing."""
        self._listener.forget()
        began, began_ns = time.monotonic(), time.time_ns()
        with self._watchdog.asking():
            await self._leadership.hold()
            batch = await self._outbox.next_batch()
        if batch is None and self._outbox.has_hole_due:
            self._publisher.announce(await self._outbox.skip_number())
            return
        if batch is None:
            self._full_reads = 0
            self._empty_reads += 1
            await self._idle()
            return
        await self._doubt()
        span = begin_trace(self._tracing, batch, began_ns)
        self._publisher.publish(batch, span)
        span.end()
        self._ticked_at = now = time.monotonic()
        self._metrics.step_seconds.observe(now - began)
        changes = sum(len(table.changes) for table in batch.tables)
        wait = self._pace.next_seconds(changes, now - began, now)
        self._full_reads += 1
        self._empty_reads = 0
        self._awake_since = None
        if self._sleep_lock.is_held and self._full_reads > 1:
            await self._give_back()
        await self._publisher.room()
        if self._outbox.seen is None or self._outbox.has_hole_due:
            return
        if not self._sleep_lock.is_held:
            await self._listener.wait(wait)
        elif not self._queue.is_filling:
            await self._sleep(TICK_SECONDS)

    async def _idle(self) -> None:
        now = time.monotonic()
        until_tick = self._ticked_at + TICK_SECONDS - now
        if until_tick <= 0:
            self._publisher.repeat_tick()
            self._ticked_at = now
            until_tick = TICK_SECONDS
        if self._queue.is_filling and self._sleep_lock.is_held:
            await self._give_back()
        if self._sleep_lock.is_held:
            await self._sleep(until_tick)
        elif not self._may_sleep or self._queue.is_filling:
            await self._listener.wait(min(self._poll_seconds, until_tick))
        elif self._empty_reads < _EMPTY_READS_BEFORE_SLEEP:
            await self._listener.wait(LEAST_SECONDS)
        elif not await self._fall_asleep():
            await self._listener.wait(await self._stay_awake(now))

    async def _sleep(self, seconds: float) -> None:
        """Wait for a notification, at most this long.

        The last read began after the sleep lock was taken. So it saw whatever was written silently,
        and whatever it did not see notifies: reading once more, to find nothing, is not necessary.
        """
        if not self._listener.has_heard:
            self._full_reads = 0
        woken = await self._listener.wait(seconds)
        self._slept_in_silence = not woken
        if woken:
            self._missed_wakes = 0

    async def _doubt(self) -> None:
        """Stop sleeping if changes found asleep come without a notification."""
        if not self._slept_in_silence:
            return
        self._slept_in_silence = False
        self._missed_wakes += 1
        self._metrics.missed_wakes.inc()
        if self._missed_wakes < _MISSED_WAKES:
            return
        log.warning("notifications do not arrive: polling from now on")
        self._may_sleep = False
        if self._sleep_lock.is_held:
            await self._give_back()

    async def _give_back(self) -> None:
        with self._watchdog.asking():
            await self._sleep_lock.give_back()

    async def _fall_asleep(self) -> bool:
        with self._watchdog.asking():
            is_taken = await self._sleep_lock.try_take()
        if is_taken:
            self._awake_since = None
            if self._holders:
                self._note_holders("")
        return is_taken

    async def _stay_awake(self, now: float) -> float:
        """Return how long to wait before trying to sleep; log after a while what prevents it.

        That is a writer in a long transaction, or another login: any can take an advisory lock.
        """
        if self._awake_since is None:
            self._awake_since = now
        if now - self._awake_since < _AWAKE_SECONDS:
            return LEAST_SECONDS
        with self._watchdog.asking():
            holders = await self._sleep_lock.holders()
        if holders and not self._holders:
            log.warning("the relay is kept awake and polls", holders=holders)
        self._note_holders(holders)
        return self._poll_seconds

    def _note_holders(self, holders: str) -> None:
        self._holders = holders
        self._metrics.kept_awake.set(bool(holders))
        text = f"kept awake, polling, by the sleep lock of {holders}" if holders else None
        self._health.note("sleep", text)
