"""One active relay, a standby, and simultaneous starts."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from relay.schema.migrate import migrate, missing_scripts
from shared.errors import SchemaError
from shared.sql import migrations
from tests.integration.relay.conftest import Relays


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
