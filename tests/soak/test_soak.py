"""Nothing is lost, doubled, reordered or shown to others, and everything comes back, for an hour.

`SOAK_MINUTES` sets the time (60), `AYB_FAULT_SEED` the seed, `SOAK_FOLDER` where the curves go.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.test_mixture import fail
from tests.soak.churn import TABLES, Churn
from tests.soak.curves import Curves, Limit, not_back
from tests.soak.measures import Measures

if TYPE_CHECKING:
    from tests.support.arena import Arena
    from tests.support.arena_fixtures import OpenArena

MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
FOLDER = Path(os.environ.get("SOAK_FOLDER", ".soak"))
GATEWAYS = ("gateway", "second")
PROCESSES = ("relay", *GATEWAYS)
FAILING = ("relay", "second", "valkey", "postgres", "clients")
"""The gateway stays, so that whatever it accumulates is seen."""
SAMPLE_SECONDS = 5.0
FAULT_SECONDS = 12.0
QUIET_SECONDS = 90.0
RELAY = {
    "AYB_REALTIME_TABLES": "public.*",
    "AYB_REALTIME_RETENTION_SECONDS": "60",
    "AYB_RELAY_SCAN_SECONDS": "0.5",
}
LIMITS = {
    "gateway: memory (MiB)": Limit(1.3, 40),
    "gateway: files": Limit(1.0, 15),
    "gateway: threads": Limit(1.0, 4),
    # A form has a histogram of 16 series on either path, and 11 for each table.
    "gateway: series": Limit(1.0, 60 + 6 * 16),
    "relay: memory (MiB)": Limit(1.3, 40),
    "relay: files": Limit(1.0, 10),
    "relay: series": Limit(1.0, 20),
    "Postgres: our sessions": Limit(1.0, 6),
    "Postgres: outbox (MiB)": Limit(1.0, 64),
    "Postgres: advisory locks": Limit(1.0, 2),
    "Redis: channels": Limit(1.0, 2),
    "Redis: memory (MiB)": Limit(1.5, 5),
}
CPU_FACTOR = 3.0
"""How much more CPU a change may cost the gateway in the last third than in the first."""


class Watch:
    """Samples measures all the time, with the changes that were written so far."""

    def __init__(self, arena: Arena) -> None:
        self.curves = Curves()
        self._arena = arena
        self._measures = Measures(arena.stack, PROCESSES)
        self._began = time.monotonic()

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def sample(self) -> dict[str, float]:
        """Take a sample now."""
        values = await self._measures.take()
        values["changes"] = self._arena.ledger.count
        self.curves.add(time.monotonic() - self._began, values)
        return values

    async def complete(self) -> dict[str, float]:
        """Take a sample that has every measure with a limit."""
        while True:
            values = await self.sample()
            if LIMITS.keys() <= values.keys():
                return values
            await asyncio.sleep(0.5)

    def cpu_per_change(self, *, last: bool) -> float:
        """Return the gateway's milliseconds for a change, in a third of the run."""
        points = [
            (values["gateway: CPU (s)"], values["changes"])
            for _, values in self.curves.samples
            if "gateway: CPU (s)" in values
        ]
        third = points[-(len(points) // 3) :] if last else points[: len(points) // 3]
        changes = third[-1][1] - third[0][1]
        return 1000 * (third[-1][0] - third[0][0]) / changes if changes else 0.0


async def test_endurance(open_arena: OpenArena) -> None:
    """With clients, tables, rules and servers that come and go, every event arrives once and at its
    receivers only, and memory, files, series, sessions, locks, channels and outbox come back.
    """
    arena = await open_arena(readers=False, relay=RELAY)
    stack = arena.stack
    await stack.add_gateway("second")
    await stack.create(TABLES, "shifting", "marks")
    arena.add_readers(lambda: stack.url(arena.random.choice(GATEWAYS)))
    await arena.connected()
    watch = Watch(arena)
    churn = Churn(stack, arena.random, GATEWAYS)
    end = time.monotonic() + 60 * MINUTES
    faults = 0
    async with arena.load(writers=2, pause=1.5, changes=0):
        begin = await watch.complete()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run(), name="watch")
            group.create_task(churn.run(), name="churn")
            while time.monotonic() < end:
                await asyncio.sleep(arena.random.uniform(0.5, 1.5) * FAULT_SECONDS)
                await fail(arena, arena.random.choice(FAILING), may_crash=False)
                faults += 1
                for name in PROCESSES:
                    await stack.ready(name, 60)
            churn.stop()
            watching.cancel()
    problems = list(churn.wrong)
    try:
        await arena.settle()
    except AssertionError as error:
        problems.append(str(error))
    problems += await come_back(watch, begin)
    first, last = watch.cpu_per_change(last=False), watch.cpu_per_change(last=True)
    if last > CPU_FACTOR * first:
        problems.append(f"a change took {first:.2f} ms of CPU at first and {last:.2f} ms at last")
    watch.curves.write(FOLDER)
    print(
        f"{MINUTES:g} minutes, {faults} faults, {dict(churn.rounds)}; a change took {first:.2f} ms "
        f"of the gateway's CPU at first, {last:.2f} ms at last; curves in {FOLDER}/soak.svg"
    )
    assert not problems, "\n".join(problems)
    assert all(churn.rounds[kind] for kind in ("tables", "rules", "client closes"))


async def come_back(watch: Watch, begin: dict[str, float]) -> list[str]:
    """Wait until everything is back where it began; return what is not."""
    end = time.monotonic() + QUIET_SECONDS
    while True:
        found = not_back(begin, await watch.complete(), LIMITS)
        if not found or time.monotonic() > end:
            return found
        await asyncio.sleep(SAMPLE_SECONDS)
