"""`install` and `doctor`, as operators run and read them."""

from __future__ import annotations

import os

import asyncpg
import pytest

from devstack.servers import free_port
from relay.capture.triggers import list_tables
from relay.doctor.checks import examine
from relay.doctor.finding import Level
from relay.doctor.options import DoctorOptions
from relay.schema.install import InstallError, install
from relay.settings import RelaySettings
from shared.errors import SchemaError, first_error
from tests.integration.relay.conftest import Relays
from tests.support.databases import ROLES_SQL
from tests.support.replica import copy_server
from tests.support.servers import POSTGRES_SETTINGS, new_postgres

ROLE_SQL = "GRANT SELECT ON t TO ayb_authenticated; ALTER TABLE t ENABLE ROW LEVEL SECURITY"


@pytest.fixture
def settings(database, valkey_server):
    def make(**changed):
        given = {
            "database_url": database.dsn,
            "redis_url": valkey_server.url,
            "read_database_url": database.gateway_dsn,
        }
        return RelaySettings(**{**given, **changed})

    return make


async def _findings(settings):
    found = []
    healthy = await examine(DoctorOptions.of(settings), found.append)
    assert healthy is all(finding.level is not Level.FAIL for finding in found)
    return found


def _find(found, text):
    (finding,) = [finding for finding in found if text in finding.what]
    return finding


async def test_healthy(database, settings, relays, ear):
    """A deployment as documented, with a working relay, has no failing check."""
    await database.execute(
        f"CREATE TABLE t (id int PRIMARY KEY); {ROLE_SQL}; CREATE POLICY p ON t USING (true)"
    )
    async with relays.running():
        await ear.ticked()
        found = await _findings(settings())
    assert not [finding for finding in found if finding.level is Level.FAIL]
    assert _find(found, "a relay is active").level is Level.OK
    assert _find(found, "captured: public.t").level is Level.OK
    assert _find(found, "LISTEN").level is Level.OK
    # The server of the tests allows prepared transactions.
    assert _find(found, "prepared transactions").level is Level.WARN


@pytest.mark.parametrize(
    ("sql", "text", "level"),
    [
        ("", "public.t is not captured", Level.FAIL),
        ("DROP SCHEMA ayb_realtime CASCADE", "missing or outdated", Level.FAIL),
        ("", "not readable for ayb_authenticated", Level.WARN),
        ("GRANT SELECT ON t TO ayb_authenticated", "no Row-Level Security", Level.WARN),
        (ROLE_SQL, "no policy: nobody sees", Level.WARN),
        ("", "no primary key", Level.WARN),
        ("", "no relay is active", Level.WARN),
        ("DROP TABLE t", "no table is to be captured", Level.WARN),
        (
            "REVOKE ALL ON ALL TABLES IN SCHEMA ayb_realtime FROM ayb_gateway",
            "cannot read the outbox",
            Level.FAIL,
        ),
        ("GRANT INSERT ON ayb_realtime.changes TO ayb_gateway", "may write", Level.WARN),
        (
            "SELECT setval('ayb_realtime.change_seq', 9223372036854775807)",
            "capture has stopped",
            Level.FAIL,
        ),
    ],
)
async def test_faults(database, settings, sql, text, level):
    """Each fault of a database is found, with what to do about it."""
    await database.execute(f"CREATE TABLE t (id int); {sql}")
    finding = _find(await _findings(settings()), text)
    assert finding.level is level
    assert finding.remedy


async def test_faults_of_roles(database, settings):
    """Roles that would bypass Row-Level Security, or are missing, are found."""
    await database.execute("CREATE TABLE t (id int)")
    found = await _findings(settings(auth_role="no such role"))
    assert _find(found, "does not exist").level is Level.FAIL
    assert _find(found, "cannot act as no such role").level is Level.FAIL
    found = await _findings(settings(auth_role="postgres", read_database_url=database.dsn))
    assert _find(found, "role postgres is not subject").level is Level.FAIL
    assert _find(found, "login postgres is not subject").level is Level.FAIL


async def test_nothing_there(settings):
    """Servers that are away are reported one by one, without the passwords in their URLs. The read
    database is looked at all the same.
    """
    port = free_port()
    found = await _findings(
        settings(
            database_url=f"postgresql://u:secret@127.0.0.1:{port}/x",
            redis_url=f"redis://:secret@127.0.0.1:{port}",
        )
    )
    failed = [finding for finding in found if finding.level is Level.FAIL]
    assert [finding.what.partition(" ")[0] for finding in failed] == ["database:", "Redis"]
    _find(found, "may read the outbox and nothing more")
    assert "secret" not in "".join(map(str, found))


async def test_what_keeps_it_from_looking(database, settings):
    """What is said to do is about what is wrong, not about another setting."""
    missing = database.gateway_dsn.replace("ayb_gateway@", "no_such_login@")
    nowhere = database.dsn.replace(database.name, "no_such_database")
    await database.execute("REVOKE USAGE ON SCHEMA ayb_realtime FROM ayb_relay")
    await database.execute("ALTER SCHEMA ayb_realtime OWNER TO postgres")
    for changed, what, remedy in (
        ({"read_database_url": missing}, "read database: ", "AYB_READ_DATABASE_URL"),
        ({"database_url": nowhere}, "database: ", "the name of the database in AYB_DATABASE_URL"),
        ({"database_url": database.relay_dsn}, "permission denied for schema", "relay roles"),
        ({"realtime_tables": ("a.b.c",)}, "not a table pattern: a.b.c", "AYB_REALTIME_TABLES"),
        ({"database_url": "postgresql://h:port/x"}, "cannot be used", "change AYB_DATABASE_URL"),
    ):
        found = await _findings(settings(**changed))
        (failed,) = [finding for finding in found if finding.level is Level.FAIL
                     and "is not captured" not in finding.what]  # fmt: skip
        assert what in failed.what
        assert remedy in failed.remedy
        assert ("AYB_DATABASE_URL" in failed.remedy) is ("AYB_DATABASE_URL" in remedy)


async def test_tables_by_name(database, settings, owner_relays, relays):
    """It says which tables are captured, which patterns mean none, what is left out, which columns
    look like secrets, and what replication writes past the triggers.
    """
    await database.execute("""
        CREATE TABLE todos (id int PRIMARY KEY, title text, password_hash text, hash_tag text);
        CREATE TABLE hidden (id int PRIMARY KEY, api_key text);
        CREATE TABLE django_migrations (id int PRIMARY KEY);
        GRANT SELECT ON todos TO ayb_authenticated;
        GRANT SELECT (id) ON hidden TO ayb_authenticated;
    """)
    tables = {"realtime_tables": ("todos", "hidden", "nosuch", "django_*")}
    async with relays.running(**tables):
        found = await _findings(settings(**tables))
    assert _find(found, "captured: public.hidden, public.todos").level is Level.OK
    assert _find(found, "nosuch in AYB_REALTIME_TABLES means no table").level is Level.WARN
    assert "public.django_migrations" in _find(found, "left out as bookkeeping").what
    secrets = _find(found, "look like secrets")
    assert secrets.what.startswith("public.todos: ")
    assert secrets.what.endswith(": password_hash")
    assert "public.todos" in _find(found, "session_replication_role = replica").what
    await database.execute("ALTER TABLE todos DISABLE TRIGGER ALL")
    found = await _findings(settings(**tables))
    assert "are disabled" in _find(found, "public.todos is not captured").what
    async with owner_relays.running(**tables):
        found = await _findings(settings(**tables))
    assert not [finding for finding in found if "session_replication_role" in finding.what]


async def test_who_leads(settings, relays, owner_relays):
    """The active relay is named (login, address, since when), and so are all relays.

    If its session is hidden from this login, that is reported too.
    """
    async with relays.running(relay_priority=7):
        found = await _findings(settings())
    said = _find(found, "a relay is active").what
    assert f"process {os.getpid()}, as ayb_relay from 127.0.0.1" in said
    assert "leads since 20" in said
    assert ": leads, priority 7, round trip" in _find(found, "reaches 1 Redis").what
    async with owner_relays.running():
        found = await _findings(settings(database_url=relays.dsn))
    assert "pg_read_all_stats" in _find(found, "cannot see the session").remedy


async def test_replica(database, settings, postgres_server, server_dir):
    """A read replica that keeps up passes; one that lags by its settings is found."""
    await database.execute("CREATE TABLE t (id int)")
    folder = server_dir / f"replica-{free_port()}"
    copy_server(postgres_server, folder)
    for delay, text, level in (
        ("0", "replica keeps up", Level.OK),
        ("60000", "more than 5 s behind", Level.FAIL),
    ):
        with new_postgres(
            folder, {**POSTGRES_SETTINGS, "recovery_min_apply_delay": delay}
        ) as replica:
            await database.execute("INSERT INTO t VALUES (1)")
            dsn = replica.dsn(database.name, user="ayb_gateway")
            found = await _findings(settings(read_database_url=dsn))
            assert _find(found, text).level is level
            assert _find(found, "hot_standby_feedback").level is Level.WARN


async def test_install_by_hand(database, settings, valkey_server, ear):
    """An owner installs; a relay whose login may not alter anything then works."""
    await database.execute("DROP SCHEMA ayb_realtime CASCADE")
    await database.execute(ROLES_SQL.read_text(encoding="utf-8"))
    await database.execute("""
        CREATE TABLE t (id int PRIMARY KEY);
        REVOKE TRIGGER ON t FROM ayb_relay;
    """)
    with pytest.raises(ExceptionGroup) as raised:
        async with Relays(database.relay_dsn, valkey_server.url).running(relay_install=False):
            pass
    error = first_error(raised.value)
    assert isinstance(error, SchemaError)
    assert "python -m relay install" in str(error)
    assert "0001_outbox" in await install(settings())
    assert "none" in await install(settings())
    async with database.connect() as session:
        assert all(table.is_complete for table in await list_tables(session))
    async with Relays(database.relay_dsn, valkey_server.url).running(relay_install=False):
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.changes(1)
    async with database.connect(database.gateway_dsn) as gateway:
        assert await gateway.fetchval("SELECT count(*) FROM ayb_realtime.batches") == 2


async def test_install_names_what_it_could_not(database, settings):
    """A table in use is named, and the others are installed."""
    await database.execute("CREATE TABLE busy (id int); CREATE TABLE t (id int)")
    async with database.connect() as session, session.transaction():
        await session.execute("INSERT INTO busy VALUES (1)")
        with pytest.raises(InstallError, match=r"public\.busy"):
            await install(settings(relay_lock_milliseconds=20))
    async with database.connect() as session:
        tables = await list_tables(session)
    assert {table.name: table.is_captured for table in tables} == {"busy": False, "t": True}


async def test_table_owner_installs(database, settings):
    """An owner of tables without any other right gets one error, and nothing is left half done."""
    await database.execute("""
        DO $$BEGIN
            IF to_regrole('owner_of_t') IS NULL THEN CREATE ROLE owner_of_t LOGIN; END IF;
        END$$;
        CREATE TABLE t (id int); ALTER TABLE t OWNER TO owner_of_t;
    """)
    dsn = database.dsn.replace("postgres@", "owner_of_t@")
    with pytest.raises((SchemaError, asyncpg.InsufficientPrivilegeError)):
        await install(settings(database_url=dsn))
