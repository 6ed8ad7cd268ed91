"""AYB_READ_DATABASE_URL with several hosts: the region's own replica first, then another one's."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from devstack.servers import PostgresServer
from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.crash import crash, frozen
from tests.support.databases import Database, make_template, open_connection
from tests.support.replica import lagging_replica, replayed
from tests.support.servers import new_postgres
from tests.support.waits import gateway_says

POOL = 3


@dataclass
class Replicas:
    """An arena whose gateway reads from `own`, or else from `other`."""

    arena: Arena
    own: PostgresServer
    other: PostgresServer

    async def uses(self, server: PostgresServer) -> None:
        """Wait until all of the gateway's sessions are on this replica, and no more than it may."""
        elsewhere = self.other if server is self.own else self.own
        async with asyncio.timeout(60):
            while True:
                here = await self._sessions(server)
                assert here <= POOL + 1, "one more than the pool has may be looking for a way back"
                if here and not await self._sessions(elsewhere):
                    return
                await asyncio.sleep(0.1)

    async def place(self) -> float:
        """Read the metric of the place in the list."""
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"{self.arena.stack.gateway_url}/metrics")).text
        return float(text.partition("\nayb_read_database_place ")[2].partition("\n")[0])

    async def _sessions(self, server: PostgresServer) -> int:
        try:
            async with asyncio.timeout(2), open_connection(server.dsn()) as admin:
                number: int = await admin.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ayb-gateway'"
                )
                return number
        except (OSError, TimeoutError):
            return 0


@pytest.fixture
async def replicas(open_arena: OpenArena, server_dir: Path) -> AsyncIterator[Replicas]:
    """A primary and two replicas."""
    folder = server_dir / f"hosts-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(new_postgres(folder))
        await make_template(primary, "app")
        own, other = (
            stack.enter_context(
                lagging_replica(primary, folder.with_name(f"{folder.name}{name}"), delay_seconds=0)
            )
            for name in "ab"
        )
        arena = await open_arena(
            readers=False,
            postgres=primary,
            database=Database.on(primary, "app"),
            gateway={
                "AYB_READ_DATABASE_URL": (
                    f"postgresql://ayb_gateway@127.0.0.1:{own.port},127.0.0.1:{other.port}/app"
                ),
                "AYB_REALTIME_POOL_CONNECTIONS": str(POOL),
            },
        )
        for replica in (own, other):
            await replayed(arena.stack.database, replica)
        yield Replicas(arena, own, other)
        await arena.close()
        await arena.stack.close()


async def test_the_next_host_is_used_while_the_first_is_away(replicas: Replicas) -> None:
    """While the first is stopped, killed or frozen, events come through the second; the gateway
    goes back to the first once that has caught up, and nothing is lost, repeated or reordered.
    """
    arena, own, other = replicas.arena, replicas.own, replicas.other
    arena.add_readers()
    async with arena.load(pause=0.3):
        await replicas.uses(own)
        await asyncio.to_thread(own.stop)
        await replicas.uses(other)
        await gateway_says(arena.stack, f"uses 127.0.0.1:{other.port}", part="read database")
        await gateway_says(arena.stack, "ok", part="events")
        assert await replicas.place() == 1
        await arena.written(300)
        own.start()
        await replicas.uses(own)
        assert await replicas.place() == 0
        await asyncio.to_thread(crash, own)
        await replicas.uses(other)
        own.start()
        await replicas.uses(own)
        with frozen(own):
            await gateway_says(arena.stack, f"uses 127.0.0.1:{other.port}", part="read database")
            await gateway_says(arena.stack, "ok", part="events")
            await arena.written(300)
        await replicas.uses(own)
    await arena.settle()
    log = arena.stack.log("gateway")
    assert log.count("back on the first host") == 3


async def test_a_first_host_that_is_behind_is_left_alone(replicas: Replicas) -> None:
    """It is there again, but has not replayed what the second has."""
    arena, own, other = replicas.arena, replicas.own, replicas.other
    await replicas.uses(own)
    await asyncio.to_thread(own.stop)
    await replicas.uses(other)
    with (own.data_dir / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.write("primary_conninfo = ''\n")
    await arena.stack.sql("INSERT INTO written VALUES (-1)")
    own.start()
    await gateway_says(arena.stack, "has not replayed", part="read database")
    await replicas.uses(other)
