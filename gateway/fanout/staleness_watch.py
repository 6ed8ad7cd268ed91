"""Asks the read database for signs of the relay, reports staleness, and overtakes late ticks.

Ticks can come late although Redis answers: its link is slow, or something between holds them
back. The read database then has batches that no tick has announced. If it is found ahead twice, its
state is taken over, and the hub reads the batches from the outbox. The ticks that come later then
announce nothing new.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from gateway.fanout.staleness import Pulse, Staleness
from shared.errors import DatabaseUnavailableError
from shared.pool import own_session
from shared.postgres import unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from gateway.fanout.backlog import Backlog
    from gateway.fanout.staleness import Mark
    from shared.change import Tick

log = structlog.get_logger(__name__)

_PULSE_SECONDS: Final = 0.4
_ANSWER_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.25

_SQL: Final = queries("gateway.fanout")


class StalenessWatch:
    """Keeps a `Staleness` up to date; `max_lag_seconds` is what is tolerated silently."""

    def __init__(self, pool: asyncpg.Pool, backlog: Backlog, *, max_lag_seconds: float) -> None:
        self._pool = pool
        self._backlog = backlog
        self._max_lag_seconds = max_lag_seconds
        self._staleness = Staleness(now=time.monotonic())
        self._tick: Mark = (0, 0)
        self._ticks_are_late = False

    @property
    def seconds(self) -> float:
        """How stale the read database is, in seconds; about one while all is well."""
        return self._staleness.seconds(time.monotonic())

    @property
    def is_stale(self) -> bool:
        """Whether it is staler than tolerated."""
        return self.seconds > self._max_lag_seconds

    @property
    def reason(self) -> str:
        """What explains the staleness, and what to look at."""
        return self._staleness.reason(time.monotonic())

    @property
    def rivals(self) -> tuple[int, int] | None:
        """The epochs of two relays that both send ticks; None for one relay."""
        return self._staleness.rivals(time.monotonic())

    @property
    def ticks_are_late(self) -> bool:
        """Whether ticks arrive, but after the read database has what they announce."""
        return self._ticks_are_late

    def on_tick(self, tick: Tick) -> None:
        """Take in a tick."""
        self._tick = (tick.epoch, tick.batch)
        self._staleness.on_tick(tick.epoch, tick.batch, time.monotonic())
        if self._ticks_are_late and self._tick >= self._staleness.newest:
            self._ticks_are_late = False
            log.info("ticks are in time again", batch=tick.batch)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_for_ever(group), name="staleness")
            group.create_task(self._log_changes(), name="staleness log")

    async def _ask_for_ever(self, group: asyncio.TaskGroup) -> None:
        while True:
            asking = group.create_task(self._ask(), name="staleness pulse")
            # A frozen server delays even the end of a query that has been given up.
            done, _ = await asyncio.wait([asking], timeout=_ANSWER_SECONDS)
            if not done:
                self._staleness.on_failure("no answer")
                await self._pool.doubt()
                await asyncio.wait([asking])
            await asyncio.sleep(_PULSE_SECONDS)

    async def _ask(self) -> None:
        before = self._staleness.newest
        try:
            with unavailable_as_ours():
                async with own_session(self._pool) as connection:
                    now = time.monotonic()
                    row = await connection.fetchrow(_SQL["pulse"])
            self._staleness.on_pulse(_pulse(row, now))
            await self._overtake(before)
        except DatabaseUnavailableError as error:
            self._staleness.on_failure(str(error))
        except asyncpg.PostgresError as error:
            self._staleness.on_failure(str(error).partition("\n")[0])

    async def _overtake(self, before: Mark) -> None:
        """Take over the read database's state if it is ahead of the ticks, as it was `before`."""
        here = (self._backlog.epochs.current, self._backlog.newest)
        newest = self._staleness.newest
        if newest <= here or not (self._ticks_are_late or before > here):
            return
        if not self._ticks_are_late:
            self._ticks_are_late = True
            log.warning("ticks come late: reading the outbox", announced=here[1], newest=newest[1])
        await self._backlog.refresh()

    async def _log_changes(self) -> None:
        was_stale, reason, rivals = False, "", None
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self.is_stale and (not was_stale or self.reason != reason):
                was_stale, reason = True, self.reason
                log.warning("stale", seconds=round(self.seconds, 1), reason=reason)
            elif was_stale and not self.is_stale:
                was_stale, reason = False, ""
                log.info("no longer stale")
            if self.rivals != rivals:
                rivals = self.rivals
                if rivals is not None:
                    log.error("two relays send ticks: fence the old primary", epochs=rivals)


def _pulse(row: asyncpg.Record, at: float) -> Pulse:
    return Pulse(
        at=at,
        newest=(row["epoch"], row["batch"]),
        heard_at=row["heard_at"],
        clock=row["clock"],
        is_standby=row["is_standby"],
        is_paused=row["is_paused"],
        unreplayed_bytes=row["unreplayed_bytes"],
        commit_at=row["commit_at"],
    )
