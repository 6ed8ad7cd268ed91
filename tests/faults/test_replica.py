"""A read replica that lags: events are judged late, and never by data older than the event (CASE
29).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from devstack.servers import PostgresServer
from tests.support import fault_world
from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.crash import crash, frozen
from tests.support.databases import Database, make_template
from tests.support.replica import lagging_replica, replayed
from tests.support.servers import new_postgres
from tests.support.waits import gateway_says


@pytest.fixture
async def primary(server_dir: Path) -> AsyncIterator[PostgresServer]:
    """A Postgres of the test's own: a copy of the session's would hold all that ran before."""
    with new_postgres(server_dir / f"primary-{secrets.token_hex(4)}") as server:
        await make_template(server, "app")
        yield server


@contextlib.asynccontextmanager
async def arena_on_replica(
    open_arena: OpenArena, primary: PostgresServer, *, delay_seconds: float
) -> AsyncIterator[tuple[Arena, PostgresServer]]:
    """Open an arena whose gateway asks a replica that lags."""
    folder = primary.data_dir.with_name(primary.data_dir.name + "-replica")
    with lagging_replica(primary, folder, delay_seconds=delay_seconds) as replica:
        arena = await open_arena(
            readers=False,
            postgres=primary,
            database=Database.on(primary, "app"),
            gateway={"AYB_READ_DATABASE_URL": replica.dsn("app", user="ayb_gateway")},
        )
        await replayed(arena.stack.database, replica)
        yield arena, replica
        await arena.close()
        await arena.stack.close()


@pytest.fixture
async def lagging(open_arena: OpenArena, primary: PostgresServer) -> AsyncIterator[Arena]:
    """An arena whose gateway asks a replica that lags by two seconds."""
    async with arena_on_replica(open_arena, primary, delay_seconds=2) as (arena, _):
        yield arena


@pytest.fixture
async def replicated(
    open_arena: OpenArena, primary: PostgresServer
) -> AsyncIterator[tuple[Arena, PostgresServer]]:
    """An arena whose gateway asks a replica that does not lag, and that replica."""
    async with arena_on_replica(open_arena, primary, delay_seconds=0) as found:
        yield found


async def test_membership_is_that_of_the_event_or_later(lagging: Arena):
    """A row written after a membership began is delivered; one written after it ended is not."""
    stack, user = lagging.stack, fault_world.USERS[5]
    assert all(user not in members for members in fault_world.MEMBERS.values())
    async with stack.stream("notes,posts", token=stack.token(user)) as client:
        await client.connected(30)
        for turn in range(3):
            note = 10 + turn
            await stack.sql("INSERT INTO members VALUES (1, $1)", user)
            await stack.sql("INSERT INTO notes VALUES ($1, NULL, false, 1, 1, $1, 'in')", note)
            event = (await client.next_message(60)).json()
            assert (event["table"], event["record"]["id"]) == ("notes", note)
            await stack.sql("DELETE FROM members WHERE member = $1", user)
            await stack.sql(
                "INSERT INTO notes VALUES ($1, NULL, false, 1, 1, $1, 'out')", 100 + turn
            )
            await stack.sql("INSERT INTO posts VALUES ($1, NULL, true, 1, 1, $1, 'end')", note)
            event = (await client.next_message(60)).json()
            assert (event["table"], event["record"]["id"]) == ("posts", note)
        assert '"out"' not in client.raw.decode()


async def test_load(lagging: Arena):
    """Under load everything arrives, once and in order, as late as the replica is."""
    lagging.add_readers()
    async with lagging.load(pause=0.2):
        for reader in lagging.readers:
            reader.cut()
        await asyncio.sleep(0)
    await lagging.settle()


async def test_replica_fails(replicated: tuple[Arena, PostgresServer]):
    """A replica that restarts, crashes, freezes or lags too much delays events, which readiness
    reports, and loses none.
    """
    arena, replica = replicated
    arena.add_readers()
    async with arena.load(pause=0.3):
        await asyncio.to_thread(replica.stop)
        await gateway_says(arena.stack, "unavailable", part="database")
        await arena.written(500)
        replica.start()
        await gateway_says(arena.stack, "ok", part="events")
        await arena.connected()
        await asyncio.to_thread(crash, replica)
        await arena.written(500)
        replica.start()
        await gateway_says(arena.stack, "ok", part="events")
        await arena.connected()
        with frozen(replica):
            await gateway_says(arena.stack, "cannot be asked", part="lag")
        await gateway_says(arena.stack, "ok", part="events")
        async with arena.stack.database.connect(replica.dsn()) as standby:
            await standby.execute("SELECT pg_wal_replay_pause()")
            await gateway_says(arena.stack, "lags", part="events")
            await arena.written(500)
            await standby.execute("SELECT pg_wal_replay_resume()")
        await gateway_says(arena.stack, "ok", part="events")
    await arena.settle()


async def test_lag_alone_keeps_a_gateway_ready(replicated: tuple[Arena, PostgresServer]):
    """While replay is paused the body names the wait and its cause, and the status stays 200."""
    arena, replica = replicated
    arena.add_readers()
    await arena.connected()
    url = f"{arena.stack.gateway_url}/readyz"
    async with (
        arena.stack.database.connect(replica.dsn()) as standby,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        await standby.execute("SELECT pg_wal_replay_pause()")
        async with arena.load(changes=2_000):
            await gateway_says(arena.stack, "the replica lags behind", part="events")
            for _ in range(20):
                assert (await http.get(url)).status_code == 200
                await asyncio.sleep(0.2)
            await standby.execute("SELECT pg_wal_replay_resume()")
    await arena.settle()
