"""A region that gets nothing, or gets it late, says so and why; and late ticks delay no event."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis.asyncio as redis

from devstack.servers import PostgresServer, ValkeyServer
from shared.change import FORMAT, Tick, encode
from shared.outbox import log_state
from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.bus import channels_of
from tests.support.databases import Database, make_template
from tests.support.proxy import Proxy
from tests.support.replica import lagging_replica, replayed
from tests.support.servers import new_postgres
from tests.support.waits import gateway_says


@dataclass
class Region:
    """A gateway with a replica, and with Redis behind a proxy; the relay is at the primary."""

    arena: Arena
    replica: PostgresServer
    proxy: Proxy

    async def metric(self, name: str) -> float:
        """Read a metric of the gateway."""
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"{self.arena.stack.gateway_url}/metrics")).text
        (value,) = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(value)

    async def on_replica(self, sql: str) -> None:
        """Run SQL on the replica as superuser."""
        async with self.arena.stack.database.connect(self.replica.dsn()) as standby:
            await standby.execute(sql)


@pytest.fixture
async def region(
    open_arena: OpenArena, own_valkey: ValkeyServer, server_dir: Path
) -> AsyncIterator[Region]:
    """A region whose link to Redis and whose replica are under the test's control."""
    folder = server_dir / f"region-{secrets.token_hex(4)}"
    async with contextlib.AsyncExitStack() as stack:
        primary = stack.enter_context(new_postgres(folder))
        await make_template(primary, "app")
        replica = stack.enter_context(
            lagging_replica(primary, folder.with_name(f"{folder.name}-b"), delay_seconds=0)
        )
        proxy = await stack.enter_async_context(Proxy(own_valkey.port))
        arena = await open_arena(
            readers=False,
            postgres=primary,
            database=Database.on(primary, "app"),
            gateway={
                "AYB_READ_DATABASE_URL": replica.dsn("app", user="ayb_gateway"),
                "AYB_REDIS_URL": proxy.lead(own_valkey.url),
                "AYB_REGION": "far",
            },
        )
        await replayed(arena.stack.database, replica)
        for part in ("lag", "bus"):
            await gateway_says(arena.stack, "ok", part=part)
        yield Region(arena, replica, proxy)
        await arena.close()
        await arena.stack.close()


async def test_each_cause_is_shown(region: Region) -> None:
    """Redis cut off or silent, replay paused, replication ended, the relay gone: readiness, metric
    and log name each while nothing is written, and it passes with its cause.
    """
    stack = region.arena.stack
    for fault in (region.proxy.refuse, region.proxy.discard):
        fault()
        await gateway_says(stack, "no ticks", part="bus")
        await gateway_says(stack, "ok", part="lag")
        assert await region.metric("ayb_bus_pushing") == 0
        region.proxy.heal()
        await gateway_says(stack, "ok", part="bus")

    await region.on_replica("SELECT pg_wal_replay_pause()")
    await gateway_says(stack, "replay is paused", part="lag")
    assert await region.metric("ayb_stale") == 1
    before = await region.metric("ayb_staleness_seconds")
    await asyncio.sleep(0.1)
    assert await region.metric("ayb_staleness_seconds") > before > 2
    assert await region.metric('ayb_gateway_info{region="far"}') == 1
    async with httpx.AsyncClient(trust_env=False) as http:
        for query, status in (("", 200), ("?max_lag=1.5", 503), ("?max_lag=3600", 200)):
            answer = await http.get(f"{stack.gateway_url}/readyz{query}")
            assert (answer.status_code, answer.json()["region"]) == (status, "far")
    await region.on_replica("SELECT pg_wal_replay_resume()")
    await gateway_says(stack, "ok", part="lag")
    assert await region.metric("ayb_stale") == 0

    async with stack.database.connect(region.replica.dsn()) as standby:
        conninfo = await standby.fetchval("SHOW primary_conninfo")
        await standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        await standby.execute("SELECT pg_reload_conf()")
        await gateway_says(stack, "ticks arrive, but nothing", part="lag")
        await standby.execute(f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
        await standby.execute("SELECT pg_reload_conf()")
    await gateway_says(stack, "ok", part="lag")

    await stack.kill("relay")
    await gateway_says(stack, "no relay leads", part="lag")
    await gateway_says(stack, "no ticks", part="bus")
    async with asyncio.timeout(10):
        # The log has what the gateway finds when it looks next.
        while "no relay leads" not in stack.log("gateway"):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        while "no relay has given a sign" not in await _lag(region):
            await stack.sql("INSERT INTO written VALUES ((SELECT count(*) FROM written))")
            await asyncio.sleep(0.2)
    await stack.start("relay")
    for part in ("lag", "bus"):
        await gateway_says(stack, "ok", part=part)
    log = stack.log("gateway")
    for words in ("replay is paused", "ticks arrive, but nothing", "no relay leads"):
        assert words in log


async def test_an_epoch_that_the_replica_does_not_know(
    region: Region, own_valkey: ValkeyServer
) -> None:
    """Ticks of a newer epoch beside those of the one that the replica knows: what is announced and
    lacking is named, and so are the two relays.
    """
    stack = region.arena.stack
    channels = await channels_of(stack.database)
    async with stack.database.connect() as connection:
        state = await log_state(connection)
    assert state.history is not None
    newer = Tick(FORMAT, state.history, state.epoch + 1, state.last_batch + 1, 0, 0.0, ())

    async def send() -> None:
        async with redis.from_url(own_valkey.url) as client:
            while True:
                await client.publish(channels.tick, encode(newer))
                await asyncio.sleep(0.5)

    sending = asyncio.create_task(send())
    await gateway_says(stack, "two relays send ticks", part="relays")
    assert await region.metric("ayb_rival_relays") == 1
    stack.pause("relay")
    await gateway_says(stack, "ticks are of a newer epoch", part="lag")
    stack.resume("relay")
    sending.cancel()
    await gateway_says(stack, "ok", part="lag")
    assert "two relays send ticks" in stack.log("gateway")


async def _lag(region: Region) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{region.arena.stack.gateway_url}/readyz")
    lag: str = answer.json()["parts"]["lag"]
    return lag


async def test_late_ticks_delay_nothing(region: Region) -> None:
    """Behind a thin line ticks come later and later: events are read from the replica meanwhile,
    and what comes late is neither repeated nor out of order.
    """
    region.arena.add_readers()
    async with region.arena.load(pause=0.05):
        region.proxy.bytes_a_second = 5_000
        await gateway_says(region.arena.stack, "reading the outbox", part="bus")
        assert await region.metric("ayb_bus_pushing") == 0
        await region.arena.written(1_500)
        region.proxy.bytes_a_second = None
        await gateway_says(region.arena.stack, "ok", part="bus")
    await region.arena.settle()


async def test_delayed_ticks_delay_nothing(region: Region) -> None:
    """Ticks that come five seconds after the replica has their batches."""
    region.proxy.delay_seconds = 5
    async with (
        region.arena.stack.stream("posts", token=region.arena.stack.token()) as client,
        region.arena.stack.database.connect() as session,
    ):
        await client.connected()
        for number in range(100, 120):
            await session.execute(
                "INSERT INTO posts VALUES ($1, NULL, true, 1, 1, $1, 'x')", number
            )
            event = (await client.next_message(4)).json()
            assert event["record"]["id"] == number


async def test_a_client_that_moves_to_a_stale_region(
    region: Region, own_valkey: ValkeyServer
) -> None:
    """It is asked to come again, or its events are held, until that region has what it has seen;
    then it goes on: no event is lost, repeated or out of order, and none is called lost.
    """
    stack = region.arena.stack
    await stack.add_gateway(
        "near",
        AYB_READ_DATABASE_URL=stack.database.gateway_dsn,
        AYB_REDIS_URL=own_valkey.url,
        AYB_REGION="near",
    )
    token, seen, numbers = stack.token(), [], itertools.count(101)
    position: str | None = None

    async def write() -> None:
        sql = "INSERT INTO posts VALUES ($1, NULL, true, 1, 1, $1, 'x')"
        await stack.sql(sql, next(numbers))

    for has_ticks in (False, True):
        if has_ticks:
            region.proxy.heal()
            await gateway_says(stack, "ok", part="bus")
        else:
            region.proxy.refuse()
        async with stack.stream(
            "posts", token=token, gateway="near", last_event_id=position
        ) as client:
            await client.connected()
            await region.on_replica("SELECT pg_wal_replay_pause()")
            for _ in range(5):
                await write()
                seen.append((await client.next_message()).json()["record"]["id"])
            position = client.last_event_id
        await write()
        async with stack.stream("posts", token=token, last_event_id=position) as client:
            event = await client.next()
            assert event.type == ("connected" if has_ticks else "busy")
            if has_ticks:
                await client.silence(1.0)
        await region.on_replica("SELECT pg_wal_replay_resume()")
        async with asyncio.timeout(30):
            while event.type == "busy":
                async with stack.stream("posts", token=token, last_event_id=position) as client:
                    event = await client.next()
                    if event.type != "busy":
                        break
        async with stack.stream("posts", token=token, last_event_id=position) as client:
            await client.connected()
            await write()
            for _ in range(2):
                seen.append((await client.next_message(20)).json()["record"]["id"])
            position = client.last_event_id
            assert '"resync"' not in client.raw.decode()
    assert seen == list(range(101, next(numbers)))
    await stack.stop("near")
