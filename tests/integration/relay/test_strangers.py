"""What any login can do to a relay's locks and notifications: it is named, and stops nothing."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from relay.app import Relay
from relay.health import Health
from relay.metrics import RelayMetrics
from tests.integration.relay.conftest import Relays, eventually, is_leading
from tests.support.databases import Database, make_template, open_connection
from tests.support.servers import POSTGRES_SETTINGS, new_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from devstack.servers import PostgresServer


@contextlib.asynccontextmanager
async def stranger(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A session of a login without any right."""
    async with database.connect() as admin:
        await admin.execute(
            "DO $$ BEGIN IF to_regrole('stranger') IS NULL THEN CREATE ROLE stranger LOGIN; "
            "END IF; END $$"
        )
    async with database.connect(database.dsn.replace("postgres@", "stranger@")) as session:
        yield session


@contextlib.asynccontextmanager
async def running(relays: Relays, **changed: Any) -> AsyncIterator[tuple[Health, RelayMetrics]]:
    """Run a relay whose probes can be looked at."""
    metrics = RelayMetrics()
    health = Health(metrics)
    relay = Relay(relays.settings(**changed), health=health, metrics=metrics)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(relay.run(), name="relay")
        try:
            await eventually(lambda: is_leading(metrics) or task.done())
            yield health, metrics
        finally:
            task.cancel()


@pytest.mark.parametrize("number", [2, 3])
async def test_locks_of_a_stranger_do_not_keep_a_relay_from_leading(database, relays, ear, number):
    """An advisory lock that any login can take decides neither on the lead nor on a start."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with stranger(database) as session:
        await session.execute("SELECT pg_advisory_lock(4707185, $1)", number)
        async with relays.running():
            await database.execute("INSERT INTO t VALUES (1)")
            await ear.changes(1)


@pytest.mark.parametrize("mode", ["", "_shared"])
async def test_stranger_that_holds_the_sleep_lock_is_named(database, relays, ear, mode):
    """A relay that cannot sleep polls, delivers, and says who keeps it awake until that ends."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with running(relays) as (health, metrics):
        async with stranger(database) as session, database.connect() as writer:
            # Only under load, with changes in each read, does the relay release the lock.
            while not await session.fetchval(f"SELECT pg_try_advisory_lock{mode}(4707185, 1)"):
                for _ in range(20):
                    await writer.execute("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t")
            pid = session.get_server_pid()
            await eventually(lambda: f"pid {pid} (stranger" in health.page[1])
            assert metrics.kept_awake._value.get() == 1
            await database.execute("INSERT INTO t VALUES (0)")
            await ear.until(lambda: any(h.new == '{"id":0}' for h in ear.heard))
        await eventually(lambda: metrics.sleeping._value.get() == 1)
        assert health.page == (200, "ok\n")
        assert metrics.kept_awake._value.get() == 0


async def test_full_notification_queue_fails_no_writer(
    server_dir, postgres_server, valkey_server, ear
):
    """A session that listens and stays in a transaction fills the queue of notifications: the relay
    polls from then on, names it, and writers of captured tables go on; a relay starts, too.
    """
    if not await _is_new_enough(postgres_server):
        pytest.skip("Postgres 17 and later have max_notify_queue_pages")
    server = new_postgres(
        server_dir / "queue", {**POSTGRES_SETTINGS, "max_notify_queue_pages": "64"}
    )
    try:
        with server:
            await make_template(server, "app")
            database = Database(
                name="app",
                dsn=server.dsn("app"),
                relay_dsn=server.dsn("app", user="ayb_relay"),
                gateway_dsn=server.dsn("app", user="ayb_gateway"),
            )
            await database.execute(
                "CREATE TABLE t (id int PRIMARY KEY); GRANT pg_read_all_stats TO ayb_relay"
            )
            relays = Relays(database.relay_dsn, valkey_server.url)
            async with database.connect() as listener:
                async with running(relays) as (health, metrics):
                    await eventually(lambda: metrics.sleeping._value.get() == 1)
                    await listener.execute("LISTEN other")
                    await listener.execute("BEGIN; SELECT 1")
                    async with database.connect() as session:
                        await _fill(session, 0.4)
                        await eventually(lambda: metrics.sleeping._value.get() == 0)
                        await _fill(session, 1.0)
                    await database.execute("INSERT INTO t VALUES (1)")
                    await ear.changes(1)
                    assert f"pid {listener.get_server_pid()} (" in health.page[1]
                async with running(relays):
                    await database.execute("INSERT INTO t VALUES (2)")
                    await ear.until(lambda: ear.heard[-1].new == '{"id":2}')
    finally:
        shutil.rmtree(server_dir / "queue", ignore_errors=True)


async def _is_new_enough(server: PostgresServer) -> bool:
    async with open_connection(server.dsn()) as session:
        return bool(session.get_server_version().major >= 17)


async def _fill(session: asyncpg.Connection, share: float) -> None:
    with contextlib.suppress(asyncpg.ProgramLimitExceededError):
        while await session.fetchval("SELECT pg_notification_queue_usage()") < share:
            await session.execute(
                "SELECT pg_notify('other', n || repeat('x', 7000)) FROM generate_series(1, 5) n"
            )
