"""Two deployments on one Redis server, whose pub/sub ignores database numbers."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import redis.asyncio as redis

from tests.support.bus import channels_of, history_of
from tests.support.databases import Database, make_template
from tests.support.servers import new_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from devstack.servers import PostgresServer
    from tests.support.stack import Stack

ALICE = "00000000-0000-0000-0000-00000000000a"
NOTES = """
CREATE TABLE notes (id int PRIMARY KEY, home text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON notes TO ayb_authenticated;
CREATE POLICY anyone ON notes USING (true);
"""


@contextlib.asynccontextmanager
async def fresh_server(folder: Path) -> AsyncIterator[tuple[PostgresServer, Database]]:
    """A server made like all the others here: the same OIDs, the same names."""
    with new_postgres(folder) as server:
        await make_template(server, "app")
        yield (
            server,
            Database(
                name="app",
                dsn=server.dsn("app"),
                relay_dsn=server.dsn("app", user="ayb_relay"),
                gateway_dsn=server.dsn("app", user="ayb_gateway"),
            ),
        )


async def received(client: Any, count: int) -> list[tuple[int, str]]:
    """The next rows of a stream, which must not get `resync`."""
    rows = [(await client.next_message()).json()["record"] for _ in range(count)]
    assert [event for event in client.events if event.type == "resync"] == []
    return [(row["id"], row["home"]) for row in rows]


async def test_each_client_gets_its_own_rows(start_stack: Any, server_dir: Path) -> None:
    """With equal OIDs and names, and one relay stopped for a while, each client gets all of its
    own.
    """
    async with (
        fresh_server(server_dir / "home-0") as (first_server, first_database),
        fresh_server(server_dir / "home-1") as (second_server, second_database),
    ):
        stacks: list[Stack] = []
        for number, (server, database) in enumerate(
            ((first_server, first_database), (second_server, second_database))
        ):
            stack: Stack = await start_stack(postgres=server, database=database, start=False)
            for part in ("relay", "gateway"):
                stack.set(part, AYB_REDIS_URL=f"{stack.valkey.url}/{number}")
                await stack.start(part)
            await stack.create(NOTES, "notes")
            stacks.append(stack)
        first, second = stacks
        oids = [await stack.rows("SELECT 'notes'::regclass::oid::int AS oid") for stack in stacks]
        assert oids[0] == oids[1]
        # The second deployment is ahead of the first, whose gateway has no client yet.
        for number in range(50):
            await second.sql("INSERT INTO notes VALUES ($1, 'second')", number)
        async with (
            first.stream("notes", token=first.token(ALICE)) as one,
            second.stream("notes", token=second.token(ALICE)) as two,
        ):
            await one.connected()
            await two.connected()
            for number in range(100, 120):
                await first.sql("INSERT INTO notes VALUES ($1, 'first')", number)
                await second.sql("INSERT INTO notes VALUES ($1, 'second')", number)
            assert await received(one, 20) == [(n, "first") for n in range(100, 120)]
            assert await received(two, 20) == [(n, "second") for n in range(100, 120)]
            await first.stop("relay")
            for number in range(200, 220):
                await second.sql("INSERT INTO notes VALUES ($1, 'second')", number)
                await first.sql("INSERT INTO notes VALUES ($1, 'first')", number)
            assert await received(two, 20) == [(n, "second") for n in range(200, 220)]
            await one.silence()
            await first.start("relay")
            assert await received(one, 20) == [(n, "first") for n in range(200, 220)]


async def test_another_deployments_messages_are_dropped(start_stack: Any) -> None:
    """Under one channel prefix by mistake, messages of another history are dropped and counted."""
    stack: Stack = await start_stack(
        relay={"AYB_REALTIME_CHANNEL_PREFIX": "app"}, gateway={"AYB_REALTIME_CHANNEL_PREFIX": "app"}
    )
    await stack.create(NOTES, "notes")
    assert (await channels_of(stack.database)).prefix == (
        f"ayb:realtime:{await history_of(stack.database)}"
    )
    relid = (await stack.rows("SELECT 'notes'::regclass::oid::int AS oid"))[0]["oid"]
    foreign = "f" * 16
    async with (
        redis.Redis.from_url(stack.valkey.url) as client,
        stack.stream("notes", token=stack.token(ALICE)) as alice,
    ):
        await alice.connected()
        batch = int(alice.last_event_id) + 1
        change = [0, 1, "I", {"id": 1, "home": "foreign"}]
        content = ["public.notes", relid, ["id"], [change]]
        await client.publish("app:table:public.notes", json.dumps([1, foreign, 1, batch, content]))
        for number in (batch, 10**12):
            tick = [1, foreign, 1, number, 0, time.time(), [["public.notes", relid, 1]]]
            await client.publish("app:tick", json.dumps(tick))
        await stack.sql("INSERT INTO notes VALUES (2, 'own')")
        assert (await alice.next_message()).json()["record"] == {"id": 2, "home": "own"}
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{stack.gateway_url}/metrics")).text
    assert "ayb_bus_messages_foreign_total 3.0" in metrics
