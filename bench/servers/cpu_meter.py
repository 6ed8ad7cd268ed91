"""CPU time by part: the processes of a stack, and each login's sessions in Postgres.

The machine that runs a benchmark runs its clients and its writers too, and often other work. Time
on the clock then says little, and CPU time says what a part costs wherever it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from bench.meters.process_cpu import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import asyncpg

    from bench.servers.stack import BenchStack


@dataclass(frozen=True, slots=True)
class CpuReading:
    """How much CPU time each process has taken, at one moment."""

    seconds: Mapping[int, float]
    """By process ID."""
    parts: Mapping[int, str]
    """Which part of the stack a process belongs to."""

    def since(self, before: CpuReading) -> dict[str, float]:
        """Return the seconds that each part took since another reading.

        A process that came in between counts as a whole. One that ended in between is missing: let
        no session of interest end.
        """
        spent: dict[str, float] = {}
        for pid, seconds in self.seconds.items():
            part = self.parts[pid]
            spent[part] = spent.get(part, 0.0) + seconds - before.seconds.get(pid, 0.0)
        return spent


@dataclass
class CpuMeter:
    """Reads the CPU time of a stack's processes.

    `processes` are those of the operating system, by part: several may belong to one part. To them
    come the server processes of Postgres: sessions as `sessions of LOGIN`, all others together as
    `postgres itself`.
    """

    processes: Mapping[str, Iterable[int]]
    postgres: int
    """The process ID of the postmaster."""

    @classmethod
    def of(cls, stack: BenchStack) -> CpuMeter:
        """Return the meter of a whole stack."""
        processes = {
            "gateway": stack.gateway_pids,
            "relay": [stack.relay_pid],
            "redis": [stack.valkey.pid],
        }
        return cls(processes, stack.postgres.pid)

    async def read(self, connection: asyncpg.Connection) -> CpuReading:
        """Read now; the connection says whose the sessions of Postgres are."""
        server = psutil.Process(self.postgres)
        parts = {process.pid: "postgres itself" for process in (server, *server.children())}
        found = await connection.fetch(
            "SELECT pid, usename FROM pg_stat_activity WHERE usename IS NOT NULL"
            " AND backend_type IN ('client backend', 'walsender', 'parallel worker')"
        )
        parts |= {row["pid"]: f"sessions of {row['usename']}" for row in found}
        parts |= {pid: part for part, pids in self.processes.items() for pid in pids}
        seconds = {}
        for pid in parts:
            try:
                seconds[pid] = cpu_seconds(pid)
            except (psutil.NoSuchProcess, OSError):  # ended meanwhile
                continue
        return CpuReading(seconds, parts)


def tree_seconds(pid: int) -> float:
    """Return the CPU time of a process and of all that it has started, whether ended or not."""
    process = psutil.Process(pid)
    spent = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            ended = each.cpu_times()
            spent += cpu_seconds(each.pid) + ended.children_user + ended.children_system
        except (psutil.NoSuchProcess, OSError):  # ended meanwhile: its parent has its time
            continue
    return float(spent)
