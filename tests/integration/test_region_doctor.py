"""`python -m gateway doctor` on the region: hosts that contradict each other, and the bus."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from devstack.servers import PostgresServer, ValkeyServer
from gateway.diagnostics.region import check_region
from gateway.settings import GatewaySettings
from relay.outbox.epoch import ensure_epoch
from shared.change import FORMAT, Tick, encode
from shared.tasks import end
from tests.support.bus import channels_of
from tests.support.databases import Database, make_template
from tests.support.replica import lagging_replica, replayed
from tests.support.servers import new_postgres

LEADS = """
    UPDATE ayb_realtime.leader
    SET pid = 1, name = $1, since = clock_timestamp(), heard_at = clock_timestamp()
"""


@pytest.fixture
async def hosts(server_dir: Path) -> AsyncIterator[tuple[Database, PostgresServer]]:
    """A primary with an epoch and a leader, and its replica."""
    folder = server_dir / f"doctor-{secrets.token_hex(4)}"
    with new_postgres(folder) as primary:
        await make_template(primary, "app")
        database = Database.on(primary, "app")
        async with database.connect(database.relay_dsn) as session:
            await ensure_epoch(session)
        with lagging_replica(
            primary, folder.with_name(f"{folder.name}-b"), delay_seconds=0
        ) as replica:
            yield database, replica


def settings(database: Database, replica: PostgresServer, valkey: ValkeyServer) -> GatewaySettings:
    """Return the settings of a gateway of the replica's region."""
    values: dict[str, Any] = {
        "database_url": database.gateway_dsn,
        "read_database_url": replica.dsn("app", user="ayb_gateway"),
        "redis_url": valkey.url,
        "auth_enabled": False,
    }
    return GatewaySettings(**values)


async def test_what_each_host_and_redis_say(
    hosts: tuple[Database, PostgresServer], own_valkey: ValkeyServer
) -> None:
    """First all is well, then replay pauses, two relays send ticks, and after a promotion without a
    fence there are two primaries, two timelines and two leaders.
    """
    database, replica = hosts
    wanted = settings(database, replica, own_valkey)
    assert "no relay has ever led there" in (await check_region(wanted))[0]
    await database.execute(LEADS, "one")
    await replayed(database, replica)
    standby, primary, bus = await check_region(wanted)
    assert f"127.0.0.1:{replica.port}: ok: standby of " in standby
    assert ", timeline 1, led by one, " in standby
    assert "ok: primary, timeline 1, led by one" in primary
    assert "warning: no tick in 3.5 s" in bus

    async with database.connect(replica.dsn()) as session:
        await session.execute("SELECT pg_wal_replay_pause()")
        async with _ticking(own_valkey, (await channels_of(database)).tick, 1):
            standby, _, bus = await check_region(wanted)
        await session.execute("SELECT pg_wal_replay_resume()")
        assert "replay is paused" in standby
        assert bus.endswith("ok: ticks arrive, the last of batch 7")
        await session.execute("SELECT pg_promote()")
    async with database.connect(replica.dsn("app")) as session:
        await session.execute(LEADS, "two")
        await session.execute("CHECKPOINT")
    async with _ticking(own_valkey, (await channels_of(database)).tick, 1, 2):
        lines = "\n".join(await check_region(wanted))
    assert "not every host has followed the last failover: timelines" in lines
    assert "several primaries: " in lines
    assert "the hosts name different leaders, so two relays may lead" in lines
    assert "two relays send ticks, of epochs [1, 2]" in lines


async def test_what_is_away_is_a_line(
    hosts: tuple[Database, PostgresServer], own_valkey: ValkeyServer
) -> None:
    """A host that is down, and a Redis that is, keep nothing else from being looked at."""
    database, replica = hosts
    await database.execute(LEADS, "one")
    await asyncio.to_thread(replica.stop)
    await asyncio.to_thread(own_valkey.stop)
    standby, primary, bus = await check_region(settings(database, replica, own_valkey))
    assert "warning: database unavailable: " in standby
    assert "ok: primary" in primary
    assert "warning: " in bus


@contextlib.asynccontextmanager
async def _ticking(valkey: ValkeyServer, channel: str, *epochs: int) -> AsyncIterator[None]:
    history = channel.split(":")[-2]

    async def tick() -> None:
        async with redis.from_url(valkey.url) as client:
            while True:
                for epoch in epochs:
                    message = Tick(FORMAT, history, epoch, 7, 0, 0.0, ())
                    await client.publish(channel, encode(message))
                await asyncio.sleep(0.2)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        await end([task])
