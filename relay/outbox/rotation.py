"""Keeping the outbox in bounds: by time and by bytes, and never by deleting a row.

The outbox is a ring of six partitions. Writers write into the partition of the current generation.
A generation ends after a quarter of the retention, or when its partition has grown to its share of
the bound. There are two steps here, each independent and safe to repeat:

* *Empty* a partition by TRUNCATE, once all of it is in batches and those are older than the
  retention, or the outbox is over its bound. The horizon is raised in the same transaction, so no
  client is promised what is gone. The lock has a timeout: while a transaction still writes there,
  or a slow reader reads, the partition is left for later.
* *Begin* a generation in an empty partition and move the writers there, by setting the sequence. If
  the next partition in turn cannot be emptied, another one is used.

If none can be emptied (a transaction has been open for longer than the retention), the current one
grows. At twice the bound the trigger stops capture rather than fill the disk, as it does when there
is no relay to rotate. The relay that makes room lets capture continue and leaves a *hole*: once
every transaction has ended that may have written while capture was stopped, a batch number is
skipped, the horizon is raised above it, and every client gets `resync`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from shared.sql import queries

if TYPE_CHECKING:
    from asyncpg import Connection

    from relay.metrics import RelayMetrics
    from relay.outbox.epoch import Snapshot
    from relay.outbox.reader import Outbox

log = structlog.get_logger(__name__)

PARTITIONS: Final = 6

_LOCK_MILLISECONDS: Final = 50
"""How long readers of the outbox may have to queue behind our lock."""

_SQL: Final = queries("relay.outbox", "rotation.sql")


@dataclass(frozen=True, slots=True)
class RotationLimits:
    """When changes are dropped."""

    retention_seconds: float
    bytes: int

    @property
    def generation_seconds(self) -> float:
        """How long a generation lasts: at its end, five of six partitions are full."""
        return self.retention_seconds / (PARTITIONS - 2)

    @property
    def generation_bytes(self) -> int:
        """How large a generation grows."""
        return self.bytes // PARTITIONS


class Rotation:
    """Rotates the outbox that a reader reads, on a connection of its own."""

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        *,
        limits: RotationLimits,
        metrics: RelayMetrics,
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._limits = limits
        self._metrics = metrics

    async def settle(self) -> None:
        """Record the bound for the triggers, and finish what a crash has left half done."""
        async with self._connection.transaction():
            await self._connection.execute(_SQL["set_bound"], self._limits.bytes)
            await self._connection.execute(_SQL["note_generation"])
        state = await self._connection.fetchrow(_SQL["state"])
        if state["is_behind"]:
            await self._connection.execute(_SQL["enter"], state["generation"])
        await self._settle_hole()

    async def turn(self) -> None:
        """Do whatever is due."""
        state = await self._connection.fetchrow(_SQL["state"])
        present, older = state["generation"], list(state["older"])
        if state["is_behind"]:
            await self._connection.execute(_SQL["enter"], present)
        needs_place = False
        if state["is_stopped"] and await self._is_used(present):
            # Nothing is written now: leave the partition, so that it can be emptied as well.
            following = await self._begin_generation(present, older)
            if following is not None:
                older.append(present)
                present = following
            needs_place = following is None
        size: int = state["bytes"]
        left: list[int] = []
        for generation in older:
            is_over = size > self._limits.bytes - self._limits.generation_bytes
            if await self._empty(generation, present, is_forced=is_over or needs_place):
                needs_place = False
                size = await self._connection.fetchval(_SQL["bytes"])
            else:
                left.append(generation)
        self._metrics.outbox_bytes.set(size)
        self._metrics.horizon.set(await self._connection.fetchval(_SQL["horizon"]))
        if state["is_stopped"]:
            if size <= self._limits.bytes and not await self._is_used(present):
                await self._resume(present)
        elif await self._is_due(present):
            following = await self._begin_generation(present, left)
            if following is not None:
                await self._connection.execute(_SQL["enter"], following)

    async def _is_used(self, present: int) -> bool:
        query = _SQL["present"].format(place=present % PARTITIONS)
        return bool((await self._connection.fetchrow(query, present))["is_used"])

    async def _is_due(self, present: int) -> bool:
        query = _SQL["present"].format(place=present % PARTITIONS)
        row = await self._connection.fetchrow(query, present)
        if not row["is_used"]:
            return False
        return bool(
            row["age_seconds"] >= self._limits.generation_seconds
            or row["bytes"] >= self._limits.generation_bytes
        )

    async def _empty(self, generation: int, present: int, *, is_forced: bool) -> bool:
        seen = self._outbox.seen
        if seen is None or generation % PARTITIONS == present % PARTITIONS:
            return False
        if not is_forced and not await self._connection.fetchval(
            _SQL["is_expired"], generation, self._limits.retention_seconds
        ):
            return False
        try:
            async with self._connection.transaction():
                emptied = await self._empty_locked(generation, present, seen)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            emptied = False
        if emptied:
            self._metrics.rotations.inc()
            log.info("partition emptied", generation=generation, forced=is_forced)
        else:
            self._metrics.rotation_refused.inc()
            log.info("partition is in use", generation=generation)
        return emptied

    async def _empty_locked(self, generation: int, present: int, seen: Snapshot) -> bool:
        place = generation % PARTITIONS

        def sql(name: str) -> str:
            return _SQL[name].format(place=place)

        await self._connection.execute(_SQL["limit_lock_wait"], f"{_LOCK_MILLISECONDS}ms")
        await self._connection.execute(sql("lock"))
        # No other transaction holds a row here now: what is not in a batch is committed and unread.
        if await self._connection.fetchval(sql("has_unread"), seen):
            return False
        await self._connection.execute(sql("raise_horizon"), generation)
        await self._connection.execute(sql("keep_checkpoint"), present)
        await self._connection.execute(sql("truncate"))
        await self._connection.execute(_SQL["forget_generation"], generation)
        return True

    async def _begin_generation(self, present: int, left: list[int]) -> int | None:
        """Choose an empty partition for the next generation; None if there is none."""
        taken = {generation % PARTITIONS for generation in (*left, present)}
        following = range(present + 1, present + PARTITIONS)
        generation = next((n for n in following if n % PARTITIONS not in taken), None)
        if generation is None:
            log.warning("no partition is free: the current one grows", generation=present)
            return None
        async with self._connection.transaction():
            await self._connection.execute(_SQL["leave"], present)
            await self._connection.execute(_SQL["add_generation"], generation)
        log.info("generation begins", generation=generation)
        return generation

    async def _resume(self, present: int) -> None:
        """Let capture continue after it had stopped."""
        await self._connection.execute(_SQL["leave_hole"])
        await self._connection.execute(_SQL["resume"], present)
        await self._settle_hole()
        log.warning("capture had stopped at the outbox's bound: clients will get resync")

    async def _settle_hole(self) -> None:
        """Find out after which transactions the hole is closed; done when capture runs again."""
        await self._connection.execute(_SQL["settle_hole"])
        self._outbox.hole_after = await self._connection.fetchval(_SQL["hole_after"])
