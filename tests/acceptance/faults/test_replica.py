"""A read replica that lags: judged late, never by data older than the event (CASE 29)."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.faults import world
from tests.acceptance.faults.arena import Arena
from tests.acceptance.faults.conftest import OpenArena
from tests.acceptance.faults.replica import lagging_replica


@pytest.fixture
async def lagging(open_arena: OpenArena, database, postgres_server, server_dir):
    """An arena whose gateway asks a replica that lags by two seconds."""
    folder = server_dir / f"replica-{database.name}"
    with lagging_replica(postgres_server, folder, delay_seconds=2) as replica:
        arena = await open_arena(
            readers=False,
            gateway={"AYB_READ_DATABASE_URL": replica.dsn(database.name, user="ayb_gateway")},
        )
        async with (
            arena.stack.database.connect() as primary,
            arena.stack.database.connect(replica.dsn(database.name)) as standby,
            asyncio.timeout(30),
        ):
            lsn = await primary.fetchval("SELECT pg_current_wal_insert_lsn()")
            replayed = "SELECT pg_last_wal_replay_lsn() >= $1"
            while not await standby.fetchval(replayed, lsn):  # noqa: ASYNC110 (another process does it)
                await asyncio.sleep(0.05)
        yield arena
        await arena.close()
        await arena.stack.stop("gateway")


async def test_membership_is_that_of_the_event_or_later(lagging: Arena):
    """A row written after a membership began is told; one written after it ended is not."""
    stack, user = lagging.stack, world.USERS[5]
    assert all(user not in members for members in world.MEMBERS.values())
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
    """Under load everything comes, once and in order, as late as the replica is."""
    lagging.add_readers()
    async with lagging.load(pause=0.2):
        for reader in lagging.readers:
            reader.cut()
        await asyncio.sleep(0)
    await lagging.settle()
