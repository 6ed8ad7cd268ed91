"""The hub: one loop that follows the batches and tells the live connections.

`current` is the batch that is being told or was told last. A connection that joins now is told what
comes after `current`: whatever is committed after it saw `connected` is recorded in a later batch,
since `current` has been recorded already. A round holds `rounds`; who must see it stand still (the
handover at the end of a replay) takes that lock.

While Postgres cannot be asked, the round is held and asked again; what comes meanwhile waits in the
ring, and once that is full, in the outbox. Nobody is shown anything unjudged.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from gateway.fanout.subscriptions import Subscriptions
from gateway.streams import sse
from shared.backoff import Backoff
from shared.errors import DatabaseUnavailableError
from shared.position import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.bus import Bus
    from gateway.fanout.delivery import Delivery
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Connection
    from shared.change import Batch

log = structlog.get_logger(__name__)

_BURST_BATCHES: Final = 16
"""So many batches behind the newest, the hub is in a burst."""


class Hub:
    """Knows the live connections and writes to them."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        bus: Bus,
        delivery: Delivery,
        metrics: GatewayMetrics,
    ) -> None:
        self._backlog = backlog
        self._bus = bus
        self._delivery = delivery
        self._metrics = metrics
        self._subscriptions = Subscriptions()
        self._live: dict[Connection, dict[str, int]] = {}
        self._on_burst: Callable[[Connection, dict[str, int]], None] | None = None
        self._current = 0
        self._epoch = 0
        self._delivered = Position(1, 0)
        self._held_because: str | None = None
        self.rounds: Final = asyncio.Lock()

    @property
    def current(self) -> int:
        """The batch that is being told, or was told last."""
        return self._current

    @property
    def held_because(self) -> str | None:
        """Why events wait, where Postgres cannot be asked now."""
        return self._held_because

    @property
    def is_started(self) -> bool:
        """Whether it follows the batches."""
        return self._epoch > 0

    @property
    def position(self) -> Position:
        """Where a connection stands that joins now."""
        return Position(self._epoch, self._current)

    @property
    def delivered(self) -> Position:
        """How far every live connection has been told."""
        return self._delivered

    def join(self, connection: Connection, relids: dict[str, int]) -> Position:
        """Make a connection live from here on."""
        for table in connection.tables:
            if table not in self._subscriptions:
                self._bus.subscribe(table)
        self._subscriptions.add(connection, relids)
        self._live[connection] = relids
        position = self.position
        connection.order = max(connection.order, position.order)
        return position

    def leave(self, connection: Connection) -> bool:
        """Forget a connection; tell whether it was live."""
        if connection not in self._live:
            return False
        connection.order = max(connection.order, self._delivered.order)
        del self._live[connection]
        self._subscriptions.discard(connection)
        for table in connection.tables:
            if table not in self._subscriptions:
                self._bus.unsubscribe(table)
        return True

    def leave_bursts_to(self, replay: Callable[[Connection, dict[str, int]], None]) -> None:
        """Say who takes over the connections that a burst is for."""
        self._on_burst = replay

    def connections(self) -> list[Connection]:
        """The live connections."""
        return list(self._live)

    async def run(self) -> None:
        """Follow the batches for ever."""
        await self._start()
        backoff = Backoff(first_seconds=0.02, most_seconds=1.0)
        while True:
            await self._backlog.wait_beyond(self._current)
            async with self.rounds:
                try:
                    moved = await self._round()
                except DatabaseUnavailableError as error:
                    moved = False
                    self._hold(str(error))
            if moved:
                backoff.reset()
                self._held_because = None
            else:
                await asyncio.sleep(backoff.next_seconds())

    async def _start(self) -> None:
        backoff = Backoff(most_seconds=2.0)
        logged = ""
        while True:
            try:
                await self._backlog.refresh()
                if self._backlog.is_known:
                    break
                reason = "no relay has ever run on this database"
            except DatabaseUnavailableError as error:
                reason = str(error)
            if reason != logged:
                logged = reason
                log.warning("waiting for the outbox", reason=reason)
            await asyncio.sleep(backoff.next_seconds())
        self._advance(self._backlog.newest)
        log.info("following", position=str(self.position))

    async def _round(self) -> bool:
        """Tell the next portion of batches; False where it is not to be had yet."""
        backlog = self._backlog
        if backlog.newest < self._current or backlog.epoch_of(self._current) != self._epoch:
            self._resync_all("unknown", backlog.last_before(self._epoch))
            return True
        if not self._live:
            self._advance(backlog.newest)
            return True
        batches = await backlog.read(self._current, backlog.newest, self._subscriptions)
        if not batches:
            if backlog.is_gone(self._current + 1):
                self._resync_all("expired", backlog.newest)
                return True
            return False
        if backlog.newest - batches[-1].id >= _BURST_BATCHES:
            self._divert_burst(batches)
        self._current, self._epoch = batches[-1].id, batches[-1].epoch
        await self._deliver(batches)
        self._delivered = self.position
        return True

    def _divert_burst(self, batches: Sequence[Batch]) -> None:
        """Leave those whom a burst is for to replay, so that it holds up nobody else.

        Order is promised to each client across its own tables. So the clients of a table of which
        very much comes at once follow at their own pace, and the others' changes overtake.
        """
        replay = self._on_burst
        if replay is None:
            return
        bursting = {
            subscribers.table
            for batch in batches
            for content in batch.tables
            for subscribers in self._subscriptions.of(content.table, content.relid)
        }
        aside = [
            (connection, relids)
            for connection, relids in self._live.items()
            if not bursting.isdisjoint(connection.tables)
        ]
        if 0 < len(aside) < len(self._live):
            log.info("burst", tables=sorted(bursting), connections=len(aside))
            for connection, relids in aside:
                self.leave(connection)
                replay(connection, relids)

    async def _deliver(self, batches: Sequence[Batch]) -> None:
        backoff = Backoff(first_seconds=0.02, most_seconds=1.0)
        while True:
            try:
                dispatches = await self._delivery.judge(batches, self._subscriptions)
                break
            except* DatabaseUnavailableError as group:
                self._hold(str(group.exceptions[0]))
            await asyncio.sleep(backoff.next_seconds())
        self._held_because = None
        told = await self._delivery.write(dispatches)
        self._metrics.batches.inc(len(batches))
        self._metrics.events.inc(told)
        self._metrics.behind_seconds.set(max(0.0, time.time() - batches[-1].at))

    def _hold(self, error: str) -> None:
        if error != self._held_because:
            log.warning("events are held", reason=error)
        self._held_because = error

    def _advance(self, batch: int) -> None:
        self._current, self._epoch = batch, self._backlog.epoch_of(batch)
        self._delivered = self.position

    def _resync_all(self, reason: sse.ResyncReason, batch: int) -> None:
        """Go on from another batch, and tell everybody that something cannot be replayed."""
        log.warning("resync", reason=reason, taken=self._current, now=batch)
        self._advance(batch)
        position = self.position
        for connection in self.connections():
            connection.order = position.order
            connection.write(sse.resync_frame(position, reason, connection.tables))
