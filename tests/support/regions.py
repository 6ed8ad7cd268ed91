"""Three regions on one machine, as far apart as the test says.

    A  the primary, a Valkey, the relay
    B  a read replica and a Valkey, 160 ms of round trip from A
    C  a read replica and a Valkey, 300 ms of round trip from A

Between the regions are the tests' own proxies, one for the write-ahead log and one for what the
relay publishes. Each can delay, be thin, cut, or swallow what it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from devstack.servers import PostgresServer, ValkeyServer, free_port
from tests.support.databases import make_template, open_connection
from tests.support.proxy import Proxy
from tests.support.replica import copy_server
from tests.support.servers import POSTGRES_SETTINGS, new_postgres

ROUND_TRIPS = {"b": 0.16, "c": 0.3}
"""Seconds between A and the others."""

_SETTINGS = {
    **POSTGRES_SETTINGS,
    "hot_standby_feedback": "on",
    "wal_receiver_timeout": "5s",
    "wal_sender_timeout": "5s",
    "wal_retrieve_retry_interval": "200ms",
}


@dataclass(frozen=True)
class Region:
    """One region, and the lines that lead to it from A."""

    name: str
    postgres: PostgresServer
    valkey: ValkeyServer
    wal_line: Proxy
    redis_line: Proxy

    @property
    def lines(self) -> tuple[Proxy, Proxy]:
        """Both lines."""
        return self.wal_line, self.redis_line

    @property
    def gateway_settings(self) -> dict[str, str]:
        """What a gateway of this region is told."""
        dsn = self.postgres.dsn("app", user="ayb_gateway")
        return {
            "AYB_DATABASE_URL": dsn,
            "AYB_READ_DATABASE_URL": dsn,
            "AYB_REDIS_URL": self.valkey.url,
        }


@dataclass(frozen=True)
class Regions:
    """The primary's region and the two far from it."""

    primary: PostgresServer
    valkey: ValkeyServer
    b: Region
    c: Region

    def redis_urls(self, *, b: str = "all", c: str = "all") -> str:
        """Return the value of AYB_REDIS_URL for the relay, with what it sends to B and C."""
        far = [
            f"{region.redis_line.lead(region.valkey.url)}?region={region.name}&content={content}"
            for region, content in ((self.b, b), (self.c, c))
        ]
        return ",".join([f"{self.valkey.url}?region=a", *far])

    async def replicated(self, *regions: Region, seconds: float = 60.0) -> None:
        """Wait until these regions' replicas have all that the primary has written."""
        async with open_connection(self.primary.dsn()) as session:
            lsn = await session.fetchval("SELECT pg_current_wal_flush_lsn()")
        for region in regions:
            async with open_connection(region.postgres.dsn()) as session, asyncio.timeout(seconds):
                replayed = "SELECT pg_last_wal_replay_lsn() >= $1"
                while not await session.fetchval(replayed, lsn):  # noqa: ASYNC110 (another process)
                    await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def three_regions(folder: Path) -> AsyncIterator[Regions]:
    """Start everything but relay and gateways; the replicas have caught up."""
    folder.mkdir(mode=0o755)  # noqa: ASYNC240 (a local folder)
    async with contextlib.AsyncExitStack() as stack:
        primary = stack.enter_context(new_postgres(folder / "pg-a", _SETTINGS))
        await make_template(primary, "app")
        valkey = stack.enter_context(ValkeyServer(folder / "valkey-a", port=free_port()))
        regions = [
            await _start_region(stack, folder, primary, name, round_trip)
            for name, round_trip in ROUND_TRIPS.items()
        ]
        lab = Regions(primary, valkey, *regions)
        await lab.replicated(*regions)
        yield lab


async def _start_region(
    stack: contextlib.AsyncExitStack,
    folder: Path,
    primary: PostgresServer,
    name: str,
    round_trip: float,
) -> Region:
    data = folder / f"pg-{name}"
    await asyncio.to_thread(copy_server, primary, data)
    valkey = stack.enter_context(ValkeyServer(folder / f"valkey-{name}", port=free_port()))
    wal_line = await stack.enter_async_context(Proxy(primary.port))
    redis_line = await stack.enter_async_context(Proxy(valkey.port))
    for line in (wal_line, redis_line):
        line.delay_seconds = round_trip / 2
    with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.write(f"primary_conninfo = '{wal_line.lead(primary.dsn())}?application_name={name}'\n")
    replica = new_postgres(data, _SETTINGS)
    # Ready only once it is connected over the line.
    await asyncio.to_thread(replica.start)
    stack.push_async_callback(asyncio.to_thread, replica.stop)
    return Region(name, replica, valkey, wal_line, redis_line)
