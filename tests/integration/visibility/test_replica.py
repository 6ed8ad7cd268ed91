"""Asked on a hot standby: never by data older than the event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from devstack.servers import PostgresServer
from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import Image, Visibility
from shared.errors import DatabaseUnavailableError
from shared.pool import open_pool
from tests.integration.visibility.conftest import ROLE, Seen, settings
from tests.integration.visibility.test_cases import A
from tests.support.replica import copy_server
from tests.support.servers import new_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.databases import Database

IMAGES = [Image(b'{"id": 1, "project": 1}')]


@pytest.fixture
def replica(
    postgres_server: PostgresServer, database: Database, server_dir: Path
) -> Iterator[PostgresServer]:
    """A standby of the session's server."""
    folder = server_dir / f"replica-{database.name}"
    copy_server(postgres_server, folder)
    with new_postgres(folder) as server:
        yield server


@pytest.mark.parametrize("is_joining", [True, False])
async def test_waits_for_the_replica(engine, replica, is_joining):
    """A replica that has not replayed the event is waited for, then given up for now."""
    await engine.admin.execute(
        """
        CREATE TABLE docs (id int PRIMARY KEY, project int);
        CREATE TABLE members (project int, user_id uuid);
        GRANT SELECT ON docs, members TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY member ON docs USING (EXISTS (SELECT FROM members m
            WHERE m.project = docs.project AND m.user_id = current_setting('ayb.user_id')::uuid));
        """
    )
    relid = await engine.relid("docs")
    audience = Audience(ROLE)
    audience.add("a", settings(user=A))
    standby = await asyncpg.connect(replica.dsn(engine.database.name))
    async with open_pool(
        replica.dsn(engine.database.name, user="ayb_gateway"),
        application_name="ayb-gateway",
        most=2,
        settings={"default_transaction_read_only": "on", "statement_timeout": "5000"},
    ) as pool:
        visibility = Visibility(pool, is_joining=is_joining)
        await standby.execute("SELECT pg_wal_replay_pause()")
        await engine.admin.execute("CREATE TABLE late (id int); GRANT SELECT ON late TO PUBLIC")
        late = await engine.relid("late")
        lsn = await engine.admin.fetchval("SELECT pg_current_wal_insert_lsn()")
        with pytest.raises(DatabaseUnavailableError):
            await visibility.ask(late, audience, IMAGES, lsn)
        await standby.execute("SELECT pg_wal_replay_resume()")
        async with asyncio.timeout(20):
            while True:
                try:
                    answer = await visibility.ask(relid, audience, IMAGES, lsn)
                    break
                except DatabaseUnavailableError:
                    continue
        assert not answer.is_gone
        assert Seen(answer).by("a") == set()

        await standby.execute("SELECT pg_wal_replay_pause()")
        await engine.admin.execute("INSERT INTO members VALUES (1, $1)", A)
        lsn = await engine.admin.fetchval("SELECT pg_current_wal_insert_lsn()")
        with pytest.raises(DatabaseUnavailableError):
            await visibility.ask(relid, audience, IMAGES, lsn)
        asking = asyncio.ensure_future(visibility.ask(relid, audience, IMAGES, lsn))
        await standby.execute("SELECT pg_wal_replay_resume()")
        assert Seen(await asking).by("a") == {0}
    await standby.close()
