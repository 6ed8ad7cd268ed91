"""Read, publish, rest: the relay's loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relay.metrics import RelayMetrics
    from relay.outbox import Outbox
    from relay.publisher import Publisher
    from relay.wakeup import Listener, SleepLock

TICK_SECONDS: Final = 1.0
"""An idle relay repeats its last tick so often; it also reads so often, called or not."""

_PACE_SECONDS: Final = 0.002
_EMPTY_READS_BEFORE_SLEEP: Final = 5


class Loop:
    """Moves changes from the outbox to the publisher, as they become visible."""

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        listener: Listener,
        sleep_lock: SleepLock,
        *,
        may_sleep: bool,
        poll_seconds: float,
        metrics: RelayMetrics,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._listener = listener
        self._sleep_lock = sleep_lock
        self._may_sleep = may_sleep
        self._poll_seconds = poll_seconds
        self._metrics = metrics
        self._ticked_at = 0.0
        self._full_reads = 0
        self._empty_reads = 0

    async def run(self) -> None:
        """Run for ever; raises what the database raises."""
        self._publisher.publish(await self._outbox.last_batch())
        self._ticked_at = time.monotonic()
        while True:
            await self.step()

    async def step(self) -> None:
        """Read once, and rest if there was nothing."""
        self._listener.forget()
        began = time.monotonic()
        batch = await self._outbox.next_batch()
        if batch is None and self._outbox.has_hole_due:
            self._publisher.announce(await self._outbox.skip_number())
            return
        if batch is None:
            self._full_reads = 0
            self._empty_reads += 1
            await self._rest()
            return
        self._publisher.publish(batch)
        self._ticked_at = now = time.monotonic()
        self._metrics.step_seconds.observe(now - began)
        self._full_reads += 1
        self._empty_reads = 0
        if self._sleep_lock.is_held and self._full_reads > 1:
            await self._sleep_lock.give_back()
        await self._publisher.room()
        if self._outbox.seen is not None and not self._sleep_lock.is_held:
            await self._listener.wait(self._pace(now - began))

    async def _rest(self) -> None:
        now = time.monotonic()
        until_tick = self._ticked_at + TICK_SECONDS - now
        if until_tick <= 0:
            self._publisher.repeat_tick()
            self._ticked_at = now
            until_tick = TICK_SECONDS
        if self._sleep_lock.is_held:
            # Nothing was found by a read that began after the lock was got: this is sleep.
            await self._listener.wait(until_tick)
        elif not self._may_sleep:
            await self._listener.wait(min(self._poll_seconds, until_tick))
        elif self._empty_reads < _EMPTY_READS_BEFORE_SLEEP or not await self._sleep_lock.try_take():
            await self._listener.wait(_PACE_SECONDS)

    def _pace(self, step_seconds: float) -> float:
        """Leave as much time to the writers as a step has taken, so that batches grow instead."""
        return min(max(step_seconds, _PACE_SECONDS), 5 * _PACE_SECONDS)
