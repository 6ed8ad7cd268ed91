"""A lane: connections that are behind the live stream, or follow it at their own pace, together.

A lane is served in rounds: a round reads the batches after the connection furthest behind, asks one
question per table for the whole group, and sends each connection only what lies after its own
cursor. So ten thousand clients that come back at once cost a handful of queries. A connection whose
socket is full is left out until the socket has drained; that is its backpressure.

Connections are grouped by how far behind they are, so a client returning after a day never delays
one returning after a second: those close to the live stream, and those near it, are served in every
round; those far behind in groups that stand close together, one group a round. In the common lane
newcomers wait for their turn (`gateway.fanout.fair_turns`): if they were taken along at once, every
round would begin where the latest one stands, and with enough newcomers no one would ever arrive.

Handover, in the lane of connections without a slow table: near the end a round runs while the hub
stands still between two rounds of its own. Then its `current` does not move, the last portion ends
exactly there, and the connection joins the live stream at that same batch: no gap, and since every
connection has a cursor, no repetition. The hub stands still for as long as the hub itself would
wait for a table, and no longer: then that table's connections move to its own lane.

The lane of a slow table hands nothing over and never stops the hub. It follows the batches that the
hub has passed, and its connections leave it once the table has been quick for a while.

Where a question about such a table would take longer than two seconds, it answers for some
connections only, and the others come first in the next round. So everyone is served in turn, and
about the newest state that rows have at that time. If all were asked about the same state, rows
that keep changing would have changed again before a late turn, and policies that look at the row as
it is now would show such a connection nothing until the table is quiet.

A connection whose cursor belongs to an epoch that has ended gets what that epoch left standing and
goes on with the next one; if the cursor itself was taken back, it gets `resync` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from gateway.fanout.fair_turns import FairTurns
from gateway.fanout.held import Held
from gateway.fanout.subscriptions import Subscriptions
from gateway.streams.cursor import cursor_at, last_whole_batch
from gateway.visibility.question_errors import (
    PolicyStallsError,
    RulesStallError,
)
from shared.backoff import Backoff
from shared.errors import DatabaseUnavailableError
from shared.position import Position
from shared.tracing import NO_SPAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.delivery import Delivery, Pace
    from gateway.fanout.dispatch import Judged
    from gateway.fanout.hub import Hub
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Connection

log = structlog.get_logger(__name__)

_HANDOVER_BATCHES: Final = 32
_NEAR_BATCHES: Final = 500
_LINGER_SECONDS: Final = 0.002
_MOST_LINGER_SECONDS: Final = 0.25

_REGROUP_SECONDS: Final = 1.0
"""How often a slow table's lane looks for connections that need not be in it any more."""


class Lanes(Protocol):
    """What a lane needs of those who made it."""

    def pace(self, lane: Lane) -> Pace:
        """Return how long the questions of a lane may take now."""

    def move(self, connection: Connection) -> bool:
        """Move a connection to the lane where it belongs now; return whether it has moved."""

    def postpone(self, connection: Connection, judged: Judged) -> bool:
        """Take in that a connection was left out; return whether it has moved to another lane."""

    def join(self, connection: Connection) -> None:
        """Make a connection live."""


class Lane:
    """Serves its connections until they leave it.

    `is_slow` is that of a slow table's lane, which ends once it is empty.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        backlog: Backlog,
        delivery: Delivery,
        metrics: GatewayMetrics,
        lanes: Lanes,
        is_slow: bool,
    ) -> None:
        self._hub = hub
        self._backlog = backlog
        self._delivery = delivery
        self._metrics = metrics
        self._lanes = lanes
        self._is_slow = is_slow
        self._held: Held | None = None
        self._regrouped_at = time.monotonic()
        # True for those that the last questions left out.
        self._waiting: dict[Connection, bool] = {}
        self._wake = asyncio.Event()
        self._close: FairTurns[Connection] = FairTurns()
        self._near: FairTurns[Connection] = FairTurns()
        self._served_from = -1

    @property
    def streams(self) -> int:
        """How many connections it serves."""
        return len(self._waiting)

    @property
    def held(self) -> Held | None:
        """Why its connections wait while Postgres cannot be asked; None if they do not.

        What only this table fails with says nothing about the gateway.
        """
        return self._held

    def add(self, connection: Connection) -> None:
        """Serve a connection what lies after its cursor."""
        self._waiting[connection] = False
        self._wake.set()

    def discard(self, connection: Connection) -> None:
        """Forget a connection."""
        self._waiting.pop(connection, None)
        self._wake.set()

    def wake(self) -> None:
        """Look for something to do: the hub has moved."""
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled, or until a slow table's lane is empty."""
        backoff = Backoff(first_seconds=0.02, most_seconds=1.0)
        while self._waiting or not self._is_slow:
            self._regroup()
            ready = self._ready()
            if not (self._is_behind(ready) if self._is_slow else ready):
                self._held = None  # nobody lacks anything any more
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_REGROUP_SECONDS if self._is_slow else None):
                        await self._wake.wait()
                continue
            moved = False
            groups = self._groups(self._in_turn(ready))
            try:
                for group in groups:
                    moved |= await self._round(group)
            except DatabaseUnavailableError as error:
                self._hold(error)
            if moved:
                self._held = None
                backoff.reset()
                await asyncio.sleep(self._linger_seconds(groups))
            else:
                await asyncio.sleep(backoff.next_seconds())

    def _hold(self, error: DatabaseUnavailableError) -> None:
        log.warning("replay waits", error=str(error))
        if not isinstance(error, PolicyStallsError | RulesStallError):
            self._held = Held.by(error, self._held, time.monotonic())

    def _regroup(self) -> None:
        now = time.monotonic()
        if self._is_slow and now - self._regrouped_at >= _REGROUP_SECONDS:
            self._regrouped_at = now
            for connection in list(self._waiting):
                self._lanes.move(connection)

    def _is_behind(self, ready: Sequence[Connection]) -> bool:
        """Whether the hub has passed batches that some connection lacks, or an epoch ended."""
        current = self._hub.current
        return any(
            last_whole_batch(c.cursor) < current or self._backlog.is_taken_back(c.cursor)
            for c in ready
        )

    def _linger_seconds(self, groups: Sequence[Sequence[Connection]]) -> float:
        """Return how long to leave time to the live stream, and to a herd for gathering.

        One question for many costs hardly more than one for a few. So if all have joined the live
        stream, and they were many, the next question waits for more of them.
        """
        served = [connection for group in groups for connection in group]
        if any(connection in self._waiting for connection in served):
            return _LINGER_SECONDS
        return min(_MOST_LINGER_SECONDS, _LINGER_SECONDS * len(served))

    def _in_turn(self, ready: Sequence[Connection]) -> Sequence[Connection]:
        """Return the connections that the last questions left out; if there are none, all.

        Those furthest behind come first: a question asks in this order.
        """
        if not self._is_slow:
            return ready
        first = [connection for connection in ready if self._waiting[connection]]
        self._waiting = dict.fromkeys(self._waiting, False)
        return sorted(first or ready, key=lambda connection: connection.cursor)

    def _groups(self, ready: Sequence[Connection]) -> list[list[Connection]]:
        """Choose the connections that this round serves."""
        close: list[Connection] = []
        near: list[Connection] = []
        far: list[Connection] = []
        for connection in ready:
            behind = self._hub.current - last_whole_batch(connection.cursor)
            if behind <= _HANDOVER_BATCHES:
                close.append(connection)
            elif behind <= _NEAR_BATCHES:
                near.append(connection)
            else:
                far.append(connection)
        if self._is_slow:
            # No one leaves such a lane after being served, so a turn would not end.
            groups = [close, near]
        else:
            groups = [self._close.choose(close), self._near.choose(near)]
        if far:
            far.sort(key=lambda connection: connection.cursor)
            behind_last = [c for c in far if last_whole_batch(c.cursor) > self._served_from]
            first = (behind_last or far)[0]
            start = self._served_from = last_whole_batch(first.cursor)
            groups.append(
                [c for c in far if start <= last_whole_batch(c.cursor) <= start + _NEAR_BATCHES]
            )
        return [group for group in groups if group]

    def _ready(self) -> list[Connection]:
        ready = []
        for connection in self._waiting:
            if connection.is_blocked:
                connection.when_drained(self._drained)
            elif connection.is_open:
                ready.append(connection)
        return ready

    def _drained(self, _connection: Connection) -> None:
        self._wake.set()

    async def _round(self, group: Sequence[Connection]) -> bool:
        self._resync_taken_back(group)
        after = min(connection.cursor for connection in group)
        if self._is_slow or self._hub.current - last_whole_batch(after) > _HANDOVER_BATCHES:
            return await self._portion(group)
        async with self._hub.rounds:
            if self._backlog.is_taken_back(cursor_at(self._hub.position)):
                return False  # the hub has to step back first
            self._resync_taken_back(group)
            moved = await self._portion(group)
            end = cursor_at(self._hub.position)
            if self._backlog.is_taken_back(end):
                return True
            for connection in group:
                if (
                    connection in self._waiting
                    and connection.is_open
                    and connection.cursor >= end
                    and not self._backlog.is_taken_back(connection.cursor)
                    and not self._lanes.move(connection)
                ):
                    del self._waiting[connection]
                    self._lanes.join(connection)
            return moved

    def _resync_taken_back(self, group: Sequence[Connection]) -> None:
        """Send `resync` to connections that were sent a number which was taken back."""
        for connection in group:
            if self._backlog.is_taken_back(connection.cursor):
                self._metrics.resyncs.labels("unknown").inc()
                connection.resync(self._backlog.surviving(connection.cursor), "unknown")

    async def _portion(self, group: Sequence[Connection]) -> bool:
        upto = self._hub.current
        start = last_whole_batch(min(connection.cursor for connection in group))
        if start >= upto:
            return True
        subscriptions = Subscriptions()
        for connection in group:
            if connection in self._waiting:
                subscriptions.add(connection)
        after = cursor_at(self._backlog.position(start))
        batches = await self._backlog.read(after, upto, subscriptions)
        if not batches:
            if not self._backlog.is_gone(start + 1):
                return False
            self._give_up(group)
            return True
        # The traces of replay to clients that come back would be as many as they are.
        with self._delivery.trace(batches, "slow") if self._is_slow else NO_SPAN:
            judged = await self._delivery.judge(batches, subscriptions, self._lanes.pace(self))
            if not self._backlog.survives(batches):
                return True
            left_out = {c for c in group if c in self._waiting and judged.leaves_out(c)}
            moved = [self._lanes.postpone(connection, judged) for connection in left_out]
            self._waiting.update((c, True) for c in left_out if c in self._waiting)
            events = await self._delivery.write(judged)
        self._metrics.replayed.inc(events)
        if self._is_slow:
            self._metrics.observe_written("slow", judged.recorded, time.time())
        reached = cursor_at(Position(batches[-1].epoch, batches[-1].id))
        if not self._backlog.is_taken_back(reached):
            for connection in group:
                if connection in self._waiting and connection not in left_out:
                    connection.advance(reached)
        return any(moved) or len(left_out) < len(group)

    def _give_up(self, group: Sequence[Connection]) -> None:
        """Send `resync` to those whose next batch has been rotated away."""
        position = self._hub.position
        for connection in group:
            if self._backlog.is_gone(last_whole_batch(connection.cursor) + 1):
                self._metrics.resyncs.labels("expired").inc()
                connection.resync(position, "expired")
