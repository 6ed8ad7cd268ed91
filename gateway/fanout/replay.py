"""Replay: what serves the connections that are not live, in lanes.

These are clients that come back with a position, live ones whose socket was full for too long,
those of a table with a burst, and those of a table whose question is slow; they must delay no
others (`gateway.fanout.hub`). All but the last share one lane, which brings them up to the live
stream (`gateway.fanout.lane`). A slow table has a lane of its own, and a connection with several
slow tables is in that of the slowest: it gets the events of all its tables in commit order, at that
pace.

In such a lane, a user for whom the table takes most of the time goes to a second lane of it, so
that a user delays the other users of a table as little as other tables; having many tokens does not
help, since time is charged to the user (see `gateway.visibility.looped`).

    connection has                        lane
    no slow table                         the common one
    a slow table                          that table and role
    a slow table, and a costly user       that table and role, costly users

There are at most `MOST_LANES`; what is slow beyond that shares one.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from gateway.fanout.delivery import LIVE, Pace
from gateway.fanout.lane import Lane
from gateway.fanout.slow_tables import PATIENCE_SECONDS, tables_of
from gateway.visibility.cohorts import user_of

if TYPE_CHECKING:
    from gateway.fanout.backlog import Backlog
    from gateway.fanout.delivery import Delivery
    from gateway.fanout.dispatch import Judged
    from gateway.fanout.held import Held
    from gateway.fanout.hub import Hub
    from gateway.fanout.slow_tables import SlowTables, TableRole
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Connection
    from gateway.visibility.cohorts import Settings

log = structlog.get_logger(__name__)

MOST_LANES: Final = 32
_COSTLY_SECONDS: Final = 60.0
_MOST_COSTLY: Final = 10_000
_FORGET_APART_SECONDS: Final = 1.0
"""How often those whose time is up are looked for among that many."""
_WITHOUT_END_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class LaneKey:
    """Which connections a slow table's lane is for."""

    table: TableRole
    is_for_costly_users: bool = False


_CROWD: Final = LaneKey(("", ""))
"""The lane of what is slow beyond `MOST_LANES`; no table is named so."""


class Replayer:
    """Serves connections that are not live."""

    def __init__(
        self,
        *,
        hub: Hub,
        backlog: Backlog,
        delivery: Delivery,
        slow_tables: SlowTables,
        metrics: GatewayMetrics,
    ) -> None:
        self._hub = hub
        self._backlog = backlog
        self._delivery = delivery
        self._slow_tables = slow_tables
        self._metrics = metrics
        self._serving: dict[Connection, Lane] = {}
        self._common = self._make(is_slow=False)
        self._lanes: dict[LaneKey, Lane] = {}
        self._keys: dict[Lane, LaneKey] = {}
        self._costly: dict[tuple[TableRole, Settings], float] = {}
        self._forget_at = -math.inf
        self._group: asyncio.TaskGroup | None = None

    def __len__(self) -> int:
        return len(self._serving)

    @property
    def slow(self) -> int:
        """How many of them are in lanes of slow tables."""
        return sum(lane.streams for lane in self._lanes.values())

    def connections(self) -> list[Connection]:
        """Return the connections that are served here."""
        return list(self._serving)

    def add(self, connection: Connection) -> None:
        """Serve a connection what lies after its cursor, until it can be live."""
        lane = self._lane_of(connection)
        self._serving[connection] = lane
        self._hub.follow(connection)
        lane.add(connection)

    def discard(self, connection: Connection) -> None:
        """Forget a connection."""
        lane = self._serving.pop(connection, None)
        if lane is not None:
            self._hub.unfollow(connection)
            lane.discard(connection)

    def on_advance(self) -> None:
        """Let the lanes that follow the hub look for what it has passed."""
        for lane in self._lanes.values():
            lane.wake()

    @property
    def held(self) -> Held | None:
        """Why a lane of a slow table waits while Postgres cannot be asked; None if none does."""
        return next((lane.held for lane in self._lanes.values() if lane.held is not None), None)

    def has_slow_table(self, connection: Connection) -> bool:
        """Whether a connection belongs in the lane of a slow table."""
        return self._slow_tables.slowest_of(connection, time.monotonic()) is not None

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for key, lane in self._lanes.items():
                group.create_task(self._serve(key, lane), name="lane")
            await self._common.run()

    # -- for the lanes -----------------------------------------------------------------------

    def pace(self, lane: Lane) -> Pace:
        """Return how long the questions of a lane may take now.

        Other tables than its own may take twice as long as its own before their connections move to
        another lane, so that those of two slow tables do not go back and forth.
        """
        key = self._keys.get(lane)
        if key is None:
            return LIVE
        if key is _CROWD:
            return Pace(key.table, _WITHOUT_END_SECONDS)
        seconds = self._slow_tables.seconds(key.table, time.monotonic())
        return Pace(
            key.table,
            max(PATIENCE_SECONDS, 2 * seconds),
            may_postpone=not key.is_for_costly_users,
        )

    def move(self, connection: Connection) -> bool:
        """Move a connection to the lane where it belongs now; return whether it has moved."""
        before, lane = self._serving.get(connection), self._lane_of(connection)
        if before is None or before is lane:
            return False
        before.discard(connection)
        self._serving[connection] = lane
        lane.add(connection)
        return True

    def postpone(self, connection: Connection, judged: Judged) -> bool:
        """Take in that a connection was left out; return whether it has moved to another lane."""
        table = judged.postponed.get(connection)
        if table is not None:
            now = time.monotonic()
            if len(self._costly) >= _MOST_COSTLY and now >= self._forget_at:
                self._forget_at = now + _FORGET_APART_SECONDS
                self._costly = {key: until for key, until in self._costly.items() if until > now}
            if len(self._costly) < _MOST_COSTLY:
                self._costly[table, user_of(connection.settings)] = now + _COSTLY_SECONDS
        return self.move(connection)

    def join(self, connection: Connection) -> None:
        """Make a connection live."""
        self._hub.join(connection)
        if self._serving.pop(connection, None) is not None:
            self._hub.unfollow(connection)

    # ----------------------------------------------------------------------------------------

    def _lane_of(self, connection: Connection) -> Lane:
        now = time.monotonic()
        slowest = self._slow_tables.slowest_of(connection, now)
        if slowest is None:
            return self._common
        table = self._costly_table(connection, now)
        key = LaneKey(slowest) if table is None else LaneKey(table, is_for_costly_users=True)
        if key not in self._lanes and len(self._lanes) >= MOST_LANES:
            key = _CROWD
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._make(is_slow=True)
            self._keys[lane] = key
            self._metrics.lanes.set(len(self._lanes))
            if self._group is not None:
                self._group.create_task(self._serve(key, lane), name="lane")
        return lane

    def _costly_table(self, connection: Connection, now: float) -> TableRole | None:
        """Return a slow table for which the connection's user is costly."""
        if not self._costly:
            return None
        for table in tables_of(connection):
            if self._slow_tables.seconds(table, now) and self._is_costly(connection, table, now):
                return table
        return None

    def _is_costly(self, connection: Connection, table: TableRole, now: float) -> bool:
        return self._costly.get((table, user_of(connection.settings)), now) > now

    def _make(self, *, is_slow: bool) -> Lane:
        return Lane(
            hub=self._hub,
            backlog=self._backlog,
            delivery=self._delivery,
            metrics=self._metrics,
            lanes=self,
            is_slow=is_slow,
        )

    async def _serve(self, key: LaneKey, lane: Lane) -> None:
        log.info("lane begins", table=key.table[0], costly_users=key.is_for_costly_users)
        await lane.run()
        del self._lanes[key], self._keys[lane]
        self._metrics.lanes.set(len(self._lanes))
        log.info("lane ends", table=key.table[0], costly_users=key.is_for_costly_users)
