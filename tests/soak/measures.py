"""What is looked at every few seconds: processes, metrics, Postgres and Redis."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import asyncpg
import httpx
import psutil
import redis.asyncio as redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.stack import Stack

_SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'ayb%'
"""
_OUTBOX = """
    SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::float8 / 1048576
    FROM pg_class c WHERE c.relnamespace = 'ayb_realtime'::regnamespace AND c.relkind = 'r'
"""
_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


class Measures:
    """Looks at a stack; what cannot be looked at (a process is down) is left out."""

    def __init__(self, stack: Stack, processes: Sequence[str]) -> None:
        self._stack = stack
        self._processes = processes

    async def take(self) -> dict[str, float]:
        """Return the current measures."""
        values: dict[str, float] = {}
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            for name in self._processes:
                with contextlib.suppress(psutil.Error, httpx.HTTPError):
                    await self._look_at(name, http, values)
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
            async with self._stack.database.connect() as connection:
                values["Postgres: our sessions"] = await connection.fetchval(_SESSIONS)
                values["Postgres: outbox (MiB)"] = await connection.fetchval(_OUTBOX)
                values["Postgres: advisory locks"] = await connection.fetchval(_LOCKS)
        with contextlib.suppress(OSError, redis.RedisError):
            async with redis.from_url(self._stack.valkey.url) as connection:
                values["Redis: channels"] = len(await connection.pubsub_channels())
                memory = await connection.info("memory")
                values["Redis: memory (MiB)"] = memory["used_memory"] / 2**20
        return values

    async def _look_at(self, name: str, http: httpx.AsyncClient, values: dict[str, float]) -> None:
        process = psutil.Process(self._stack.child(name).pid)
        began = time.perf_counter()
        await http.get(f"{self._stack.url(name)}/healthz")
        delay = time.perf_counter() - began
        metrics = (await http.get(f"{self._stack.url(name)}/metrics")).text
        times = process.cpu_times()
        values |= {
            f"{name}: memory (MiB)": process.memory_info().rss / 2**20,
            f"{name}: files": process.num_fds(),
            f"{name}: threads": process.num_threads(),
            f"{name}: CPU (s)": times.user + times.system,
            f"{name}: answer (ms)": delay * 1000,
            f"{name}: series": sum(
                not line.startswith("#") for line in metrics.splitlines() if line
            ),
        }
