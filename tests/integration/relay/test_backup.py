"""Dumps and restores, with the real pg_dump and pg_restore: see docs/backup.md."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from devstack.servers import PostgresServer, ValkeyServer
from relay.capture.triggers import list_tables
from relay.doctor.checks import examine
from relay.doctor.finding import Finding, Level
from relay.doctor.options import DoctorOptions
from relay.schema.install import install
from relay.schema.roles import roles_script
from tests.integration.relay.conftest import Relays, open_ear
from tests.support.databases import Database, make_template, open_connection
from tests.support.servers import new_postgres

TABLE = """
    CREATE TABLE posts (id int PRIMARY KEY, title text);
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON posts USING (true);
    GRANT SELECT ON posts TO ayb_authenticated;
    ALTER TABLE posts OWNER TO app_owner;
"""


@pytest.fixture(scope="module")
def server(server_dir: Path) -> Iterator[PostgresServer]:
    """A server with roles of its own."""
    server = new_postgres(server_dir / f"backup-{secrets.token_hex(4)}")
    if not server.program("pg_dump").exists():
        pytest.skip("this build of Postgres has no pg_dump, and a newer one writes newer dumps")
    with server:
        yield server


@pytest.fixture
async def source(server: PostgresServer, valkey_server: ValkeyServer) -> Database:
    """A database that has been captured from, with a change in its outbox."""
    name = f"source_{secrets.token_hex(4)}"
    await make_template(server, name)
    database = Database.on(server, name)
    await database.execute("""
        DO $$ BEGIN
            IF to_regrole('app_owner') IS NULL THEN CREATE ROLE app_owner LOGIN CREATEROLE; END IF;
        END $$;
        GRANT ayb_authenticated, ayb_relay, ayb_gateway TO app_owner
    """)
    await database.execute(f'GRANT CREATE ON DATABASE "{name}" TO app_owner')
    await database.execute(TABLE)
    await database.execute("GRANT TRIGGER ON posts TO ayb_relay")
    async with Relays(database.relay_dsn, valkey_server.url).running():
        await database.execute("INSERT INTO posts VALUES (1, 'before the dump')")
        async with open_ear(valkey_server.url) as ear:
            await ear.ticked()
    return database


def dump(server: PostgresServer, database: Database, folder: Path, *options: str) -> Path:
    """Dump a database; return the archive."""
    file = folder / f"{secrets.token_hex(4)}.dump"
    server.run_program("pg_dump", "-Fc", "-f", file, *options, "-d", database.dsn)
    return file


async def restore(
    server: PostgresServer, file: Path, *options: str, owner: str = "postgres"
) -> Database:
    """Restore an archive into a new database, without an error."""
    name = f"restored_{secrets.token_hex(4)}"
    async with open_connection(server.dsn()) as admin:
        await admin.execute(f'CREATE DATABASE "{name}" OWNER "{owner}"')
    database = Database.on(server, name)
    server.run_program(
        "pg_restore", "--exit-on-error", *options, "-d", server.dsn(name, user=owner), file
    )
    return database


@pytest.fixture
def archives(server: PostgresServer, server_dir: Path) -> Path:
    """A folder that the server's user may write to."""
    folder = server_dir / f"archives-{secrets.token_hex(4)}"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


async def check_stream(database: Database, valkey: ValkeyServer) -> None:
    """Run a relay; what is written is published, and it logs nothing again and again."""
    with capture_logs() as logs:
        async with open_ear(valkey.url) as ear:
            async with Relays(database.relay_dsn, valkey.url).running(relay_scan_seconds=0.05):
                await database.execute("INSERT INTO posts VALUES (2, 'after the restore')")
                await ear.until(lambda: ear.heard)
                await asyncio.sleep(1)  # twenty scans
            assert [heard.new for heard in ear.heard] == ['{"id":2,"title":"after the restore"}']
    changed = [entry for entry in logs if entry["event"].startswith("triggers ")]
    assert len(changed) == 1


async def failures(database: Database, valkey: ValkeyServer) -> list[Finding]:
    """What the doctor says does not work."""
    settings = Relays(database.relay_dsn, valkey.url).settings(
        read_database_url=database.gateway_dsn
    )
    found: list[Finding] = []
    await examine(DoctorOptions.of(settings), found.append)
    return [finding for finding in found if finding.level is Level.FAIL]


@pytest.mark.parametrize(
    "options",
    [
        (),
        (
            "--exclude-table-data=ayb_realtime.changes*",
            "--exclude-table-data=ayb_realtime.batches*",
        ),
    ],
    ids=["whole", "without_outbox"],
)
async def test_full(
    server: PostgresServer,
    source: Database,
    valkey_server: ValkeyServer,
    archives: Path,
    options: tuple[str, ...],
):
    """A full dump restores under another name; the relay goes on there in a new epoch, and logs
    each table once although the dump's own triggers stay until the owner removes them.
    """
    restored = await restore(server, dump(server, source, archives, *options))
    await check_stream(restored, valkey_server)
    assert await failures(restored, valkey_server) == []
    async with restored.connect() as session:
        (table,) = await list_tables(session)
        assert len(table.leftovers) == 2
        settings = Relays(restored.dsn, valkey_server.url).settings()
        await install(settings)
        (table,) = await list_tables(session)
        assert (table.leftovers, table.is_captured) == ((), True)
        epochs = await session.fetchval("SELECT count(*) FROM ayb_realtime.epochs")
        assert epochs == 2


async def test_partial(
    server: PostgresServer, source: Database, valkey_server: ValkeyServer, archives: Path
):
    """A dump without our schema restores if our triggers are taken from the list of contents."""
    file = dump(server, source, archives, "-N", "ayb_realtime")
    contents = server.run_program("pg_restore", "-l", file)
    kept = archives / "list"
    kept.write_text(
        "".join(line for line in contents.splitlines(True) if "!ayb_realtime_" not in line)
    )
    restored = await restore(server, file, "-L", str(kept))
    await restored.execute(roles_script())
    await check_stream(restored, valkey_server)
    assert await failures(restored, valkey_server) == []


async def test_another_owner(
    server: PostgresServer, source: Database, valkey_server: ValkeyServer, archives: Path
):
    """Restored with everything owned by one role, `roles` gives the outbox back to the relay."""
    file = dump(server, source, archives)
    options = ("--no-owner", "--no-privileges")
    restored = await restore(server, file, *options, owner="app_owner")
    async with restored.connect(server.dsn(restored.name, user="app_owner")) as owner:
        await owner.execute(roles_script())
    await check_stream(restored, valkey_server)
    assert await failures(restored, valkey_server) == []
