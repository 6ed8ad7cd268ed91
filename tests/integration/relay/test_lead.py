"""One active relay, a standby, and simultaneous starts."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from relay.app import Relay
from relay.health import Health
from relay.metrics import RelayMetrics
from relay.schema.migrate import migrate, missing_scripts
from relay.session.leader import Leadership
from shared.errors import SchemaError
from shared.sql import migrations, queries
from tests.integration.relay.conftest import Relays, eventually
from tests.support.proxy import Proxy
from tests.support.schema import SCHEMA


async def test_standby_takes_over(database, relays, ear):
    """Of two relays one publishes; when it is killed the other continues, without a hole in the
    numbers.
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.process() as first:
        await ear.ticked()
        async with relays.process() as second:
            for number in range(200):
                await database.execute("INSERT INTO t VALUES ($1)", number)
                if number == 100:
                    first.send_signal(signal.SIGKILL)
                    await first.wait()
            await ear.until(lambda: len({(h.batch, h.change.index) for h in ear.heard}) == 200)
            assert second.returncode is None
    told = {(h.batch, h.change.index): json.loads(h.new or "")["id"] for h in ear.heard}
    assert [told[place] for place in sorted(told)] == list(range(200))
    batches = sorted({batch for batch, _ in told})
    assert batches == list(range(batches[0], batches[-1] + 1))


async def test_standby_takes_over_from_a_leader_that_vanished(
    postgres_server, valkey_server, database, relays, ear
):
    """A leader vanishes with its answers under way, and its connections stay open at the server:
    the standby says how long it has been silent, ends its session and leads within 20 seconds.
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with Proxy(postgres_server.port, matching=b"ayb-relay") as proxy:
        leader = Relays(proxy.lead(database.relay_dsn), valkey_server.url)
        async with leader.process() as first:
            await ear.ticked()
            await database.execute("INSERT INTO t VALUES (1)")
            await ear.changes(1)
            health = Health(RelayMetrics())
            standby = Relay(relays.settings(), health=health, metrics=RelayMetrics())
            async with asyncio.TaskGroup() as group:
                task = group.create_task(standby.run())
                await eventually(lambda: "last heard of" in health.page[1])
                proxy.discard()
                await database.execute("INSERT INTO t VALUES (2)")
                first.kill()
                await first.wait()
                async with asyncio.timeout(20):
                    await ear.until(lambda: ear.heard[-1].new == '{"id":2}')
                assert health.page == (200, "ok\n")
                task.cancel()


async def test_silent_leader_at_work_is_left_alone(database, relays):
    """A session that works for long (it waits for a lock here) is not ended, however silent."""
    async with database.connect(relays.dsn) as leader, database.connect(relays.dsn) as other:
        leadership = Leadership(leader)
        await leadership.wait(lambda _: None)
        for state, is_ended in (("active", False), ("idle", True)):
            await other.execute(
                "UPDATE ayb_realtime.leader SET heard_at = clock_timestamp() - interval '1 hour'"
            )
            work = asyncio.create_task(
                leader.execute("SELECT pg_sleep(1)" if state == "active" else "SELECT 1")
            )
            await asyncio.sleep(0.3)
            ended = await other.fetchval(queries("relay.session")["end_silent_leader"], 0.2)
            assert bool(ended) == is_ended
            await work
        successor = Leadership(other)
        await successor.wait(lambda _: None)
        await successor.hold()


async def test_concurrent_first_starts(postgres_server, valkey_server, database, ear):
    """Relays that start together on an empty database migrate it once, and one of them leads."""
    await database.execute("DROP SCHEMA ayb_realtime CASCADE; CREATE TABLE t (id int PRIMARY KEY)")
    relays = Relays(database.dsn, valkey_server.url)
    async with relays.process(), relays.process(), relays.process():
        await ear.ticked()
        async with database.connect() as session:
            while not await session.fetchval(
                "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgname LIKE '!ayb%')"
            ):
                await session.execute("SELECT pg_sleep(0.02)")
            numbers = await session.fetchval(
                "SELECT array_agg(number ORDER BY number) FROM ayb_realtime.migrations"
            )
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.changes(1)
    assert numbers == [migration.number for migration in migrations()]


async def test_migrating_at_once(database):
    """Concurrent migrations wait for each other; a second one finds nothing to do."""
    await database.execute("DROP SCHEMA ayb_realtime CASCADE")
    async with database.connect() as one, database.connect() as other:
        done = await asyncio.gather(migrate(one), migrate(other))
        assert sorted(map(len, done)) == [0, len(migrations()) + 1]
        assert await migrate(one) == []
        assert await missing_scripts(other) == []


async def test_migrating_equals_installing(database, monkeypatch):
    """A database that got the migrations one at a time, with functions of each time between, is the
    same as one that got all at once.
    """
    async with database.connect() as session:
        await session.execute("DROP SCHEMA ayb_realtime CASCADE")
        await migrate(session)
        at_once = await session.fetch(SCHEMA)
        await session.execute("DROP SCHEMA ayb_realtime CASCADE")
        for count in range(1, len(migrations()) + 1):
            known = migrations()[:count]
            monkeypatch.setattr("relay.schema.migrate.migrations", lambda known=known: known)
            await session.execute("CREATE SCHEMA IF NOT EXISTS ayb_realtime")
            await session.execute(
                "CREATE OR REPLACE FUNCTION ayb_realtime.outbox_bytes() RETURNS bigint "
                "LANGUAGE sql AS 'SELECT 0'"
            )
            await migrate(session)
            await session.execute("UPDATE ayb_realtime.installed_functions SET checksum = 'old'")
        await migrate(session)
        assert len(at_once) > 50
        assert await session.fetch(SCHEMA) == at_once


async def test_functions_are_replaced_when_they_change(database):
    """Outdated functions are installed again; those of a newer release are left alone."""
    async with database.connect() as session:
        for version, expected in ((0, ["functions"]), (1, ["functions"]), (2, [])):
            await session.execute(
                "UPDATE ayb_realtime.installed_functions SET checksum = 'x', version = $1", version
            )
            assert await migrate(session) == expected
        await session.execute("UPDATE ayb_realtime.migrations SET checksum = 'x'")
        with pytest.raises(SchemaError, match="differs from the one applied"):
            await migrate(session)


async def test_migration_without_rights(database):
    """A login that may not migrate gets a clear error, and nothing is left half done."""
    await database.execute("DROP SCHEMA ayb_realtime CASCADE")
    async with database.connect(database.gateway_dsn) as gateway:
        with pytest.raises(SchemaError, match="python -m relay install"):
            await migrate(gateway)
