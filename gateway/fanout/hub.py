"""The hub: one loop that follows the batches and writes to the live connections.

`current` is the batch being delivered, or the last one delivered. A connection that joins now gets
what comes after `current`: whatever is committed after it saw `connected` is recorded in a later
batch, since `current` has been recorded already. A round holds `rounds`; code that needs the hub to
stand still (the handover at the end of a replay) takes that lock.

While Postgres cannot be asked, the round is held and asked again; batches that come meanwhile wait
in the ring, and once that is full, in the outbox. Nothing is delivered unjudged.

A round waits for no table longer than `slow_tables.PATIENCE_SECONDS`: the clients of a table that
takes longer leave to replay, which serves them at the pace of that table.

When an epoch ends, the hub goes back to the last batch it delivered that still stands and continues
from there with the batches of the new epoch. Connections that were sent a number which was taken
back get `resync`; the others have missed nothing and notice nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from gateway.fanout.held import Held
from gateway.fanout.subscriptions import Subscriptions
from gateway.streams.cursor import cursor_at
from shared.backoff import Backoff
from shared.errors import DatabaseUnavailableError
from shared.position import Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.bus import Bus
    from gateway.fanout.delivery import Delivery
    from gateway.fanout.dispatch import Judged
    from gateway.metrics import GatewayMetrics
    from gateway.streams import sse
    from gateway.streams.connection import Connection
    from shared.change import Batch

log = structlog.get_logger(__name__)

_IDLE_SECONDS: Final = 1.0
"""How often a gateway that no one is connected to looks how far the outbox is."""

_BURST_BATCHES: Final = 16
"""So many batches behind the newest, the hub is in a burst."""


class Replay(Protocol):
    """What serves connections that are not live."""

    @property
    def held(self) -> Held | None:
        """Why connections that follow the hub wait while Postgres cannot be asked."""

    def add(self, connection: Connection) -> None:
        """Serve a connection what lies after its cursor."""

    def on_advance(self) -> None:
        """Take in that the hub's `current` has moved."""


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
        self._live: dict[Connection, None] = {}
        self._brought_tables: list[Connection] = []
        self._followed: Counter[str] = Counter()
        self._is_followed = asyncio.Event()
        self._replay: Replay | None = None
        self._current = Position(0, 0)
        self._delivered = Position(0, 0)
        self._held: Held | None = None
        self.rounds: Final = asyncio.Lock()

    @property
    def streams(self) -> int:
        """How many connections are live."""
        return len(self._live)

    @property
    def current(self) -> int:
        """The number of the batch being delivered, or of the last one delivered."""
        return self._current.batch

    @property
    def held(self) -> Held | None:
        """Why events wait while Postgres cannot be asked; None if they do not."""
        if self._held is None and self._replay is not None:
            return self._replay.held
        return self._held

    @property
    def is_started(self) -> bool:
        """Whether the hub follows the batches."""
        return self._current.epoch > 0

    @property
    def position(self) -> Position:
        """The position of a connection that joins now."""
        return self._current

    @property
    def delivered(self) -> Position:
        """The position up to which every live connection has everything."""
        return self._delivered

    def join(self, connection: Connection) -> Position:
        """Make a connection live from here on, and return its position."""
        self.follow(connection)
        if any(table not in self._subscriptions for table in connection.tables):
            self._brought_tables.append(connection)
        self._subscriptions.add(connection)
        self._live[connection] = None
        connection.advance(cursor_at(self._current))
        return self._current

    async def catch_up(self) -> None:
        """Bring a hub without connections to the newest batch, before the first one joins.

        So a client does not get what was recorded long before it came. Without a database the hub
        stays where it is: what the client gets then is not wrong either.
        """
        if self._live:
            return
        async with self.rounds:
            with contextlib.suppress(DatabaseUnavailableError):
                if not self._live and not self._backlog.is_taken_back(cursor_at(self._current)):
                    await self._skip()

    def leave(self, connection: Connection) -> bool:
        """Forget a connection; return whether it was live."""
        if connection not in self._live:
            return False
        connection.advance(cursor_at(self._delivered))
        del self._live[connection]
        self._subscriptions.discard(connection)
        self.unfollow(connection)
        return True

    def follow(self, connection: Connection) -> None:
        """Have the changes of a connection's tables sent over the bus, whoever serves it."""
        for table in connection.tables:
            if not self._followed[table]:
                self._bus.subscribe(table)
            self._followed[table] += 1
        self._is_followed.set()

    def unfollow(self, connection: Connection) -> None:
        """Undo `follow`."""
        for table in connection.tables:
            self._followed[table] -= 1
            if not self._followed[table]:
                del self._followed[table]
                self._bus.unsubscribe(table)

    def divert_to(self, replay: Replay) -> None:
        """Name what takes over connections that cannot go on with the others."""
        self._replay = replay

    def connections(self) -> list[Connection]:
        """Return the live connections."""
        return list(self._live)

    async def run(self) -> None:
        """Follow the batches until cancelled."""
        await self._start()
        backoff = Backoff(first_seconds=0.02, most_seconds=1.0)
        while True:
            await self._backlog.wait_beyond(self._current)
            await self._rest()
            async with self.rounds:
                try:
                    moved = await self._round()
                except DatabaseUnavailableError as error:
                    moved = False
                    self._hold(error)
            if moved:
                backoff.reset()
                self._held = None
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(backoff.next_seconds())

    async def _rest(self) -> None:
        """Leave batches be for a moment while no one is connected, so that each costs no look."""
        if self._followed:
            return
        self._is_followed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._is_followed.wait()

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
        self._advance(self._backlog.position(self._backlog.confirmed))
        log.info("following", position=str(self.position))

    async def _round(self) -> bool:
        """Deliver the next portion of batches; return False if there is none to be had yet."""
        backlog, start = self._backlog, cursor_at(self._current)
        if backlog.is_taken_back(start):
            self._step_back()
            return True
        if not self._live:
            return await self._skip()
        self._brought_tables.clear()
        batches = await backlog.read(start, backlog.newest, self._subscriptions)
        if not batches:
            if backlog.is_taken_back(start):
                return True
            if backlog.is_gone(self._current.batch + 1):
                self._resync_all("expired", backlog.position(backlog.confirmed))
                return True
            return False
        # What was read lacks the tables that connections brought along meanwhile.
        self._divert([c for c in self._brought_tables if c in self._live])
        if backlog.newest - batches[-1].id >= _BURST_BATCHES:
            self._divert_burst(batches)
        self._current = Position(batches[-1].epoch, batches[-1].id)
        self._moved()
        if await self._deliver(batches):
            self._delivered = self._current
        else:
            self._step_back()
        return True

    async def _skip(self) -> bool:
        """Go to the newest batch while no one is connected, as far as the outbox confirms it."""
        await self._backlog.refresh()
        confirmed = self._backlog.position(self._backlog.confirmed)
        if self._live or self._backlog.is_taken_back(cursor_at(self._current)):
            return True
        if confirmed.batch <= self._current.batch:
            return False
        self._advance(confirmed)
        return True

    def _divert_burst(self, batches: Sequence[Batch]) -> None:
        """Leave the connections that a burst is for to replay, so that it delays no others.

        Order is promised to each client across its own tables. So the clients of a table with a
        burst follow at their own pace, and the changes for others overtake.
        """
        bursting = {
            subscribers.table
            for batch in batches
            for content in batch.tables
            for subscribers in self._subscriptions.of(content.table, content.relid)
        }
        diverted = [c for c in self._live if not bursting.isdisjoint(c.tables)]
        if 0 < len(diverted) < len(self._live):
            log.info("burst", tables=sorted(bursting), connections=len(diverted))
            self._divert(diverted)

    def _divert_left_out(self, judged: Judged) -> None:
        """Leave the connections of tables that were given up to replay, which waits for them."""
        if judged.given_up:
            diverted = [c for c in self._live if judged.leaves_out(c)]
            tables = sorted(table for table, _ in judged.given_up)
            log.info("slow tables", tables=tables, connections=len(diverted))
            self._divert(diverted)

    def _divert(self, connections: Sequence[Connection]) -> None:
        """Leave connections to replay, which serves each at its own pace."""
        if self._replay is not None:
            for connection in dict.fromkeys(connections):
                self.leave(connection)
                self._replay.add(connection)

    async def _deliver(self, batches: Sequence[Batch]) -> bool:
        """Judge and write batches; return False if they were taken back before that."""
        with self._delivery.trace(batches, "live"):
            return await self._judge_and_write(batches)

    async def _judge_and_write(self, batches: Sequence[Batch]) -> bool:
        backoff = Backoff(first_seconds=0.02, most_seconds=1.0)
        while True:
            try:
                judged = await self._delivery.judge(batches, self._subscriptions)
                break
            except DatabaseUnavailableError as error:
                self._hold(error)
            if not self._backlog.survives(batches):
                return False
            await asyncio.sleep(backoff.next_seconds())
        self._held = None
        if not self._backlog.survives(batches):
            return False
        self._divert_left_out(judged)
        events = await self._delivery.write(judged)
        self._metrics.batches.inc(len(batches))
        self._metrics.events.inc(events)
        self._metrics.received.inc(judged.changes)
        now = time.time()
        self._metrics.observe_written("live", judged.recorded, now)
        self._metrics.behind_seconds.set(max(0.0, now - batches[-1].at))
        return True

    def _hold(self, error: BaseException) -> None:
        held = Held.by(error, self._held, time.monotonic())
        if self._held is None or held.reason != self._held.reason:
            log.warning("events are held", reason=held.reason)
        self._held = held

    def _advance(self, position: Position) -> None:
        self._current = self._delivered = position
        self._moved()

    def _moved(self) -> None:
        if self._replay is not None:
            self._replay.on_advance()

    def _step_back(self) -> None:
        """Go back to the last batch that was delivered and still stands."""
        before = self._current
        self._advance(self._backlog.surviving(cursor_at(self._delivered)))
        taken_back = [c for c in self._live if self._backlog.is_taken_back(c.cursor)]
        log.warning(
            "batches were taken back",
            before=str(before), now=str(self._current), resync=len(taken_back),
        )  # fmt: skip
        self._resync(taken_back, "unknown", self._current)

    def _resync_all(self, reason: sse.ResyncReason, position: Position) -> None:
        """Go on from another position; everyone has missed something that cannot be replayed."""
        log.warning("resync", reason=reason, before=str(self._current), now=str(position))
        self._advance(position)
        self._resync(self.connections(), reason, position)

    def _resync(
        self, connections: Iterable[Connection], reason: sse.ResyncReason, position: Position
    ) -> None:
        for connection in connections:
            self._metrics.resyncs.labels(reason).inc()
            connection.resync(position, reason)
