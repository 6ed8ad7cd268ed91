"""relay/schema/roles.sql: what each login may do, and no more."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys

import asyncpg
import pytest

from devstack.servers import PostgresServer, free_port
from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.schema.migrate import migrate
from tests.support.databases import ROLES_SQL, open_connection
from tests.support.servers import new_postgres
from tests.support.stack import PROJECT

OUTBOX = "INSERT INTO ayb_realtime.changes (relid, op) VALUES (1, 'I')"


async def test_again_does_no_harm(database):
    """The script may run twice, also after the relay has made its schema."""
    await database.execute(ROLES_SQL.read_text(encoding="utf-8"))
    await database.execute(ROLES_SQL.read_text(encoding="utf-8"))


async def test_no_superuser_is_needed(server_dir):
    """The owner of the database, who may create roles, can run the script on a new server, and the
    relay's schema and triggers then work.
    """
    with PostgresServer(server_dir / "hosted", port=free_port()) as server:
        async with open_connection(server.dsn()) as superuser:
            await superuser.execute("CREATE ROLE app_owner LOGIN CREATEROLE")
            await superuser.execute("CREATE DATABASE app OWNER app_owner")
        async with open_connection(server.dsn("app", user="app_owner")) as owner:
            await owner.execute("CREATE TABLE posts (id bigint PRIMARY KEY)")
            await owner.execute(ROLES_SQL.read_text(encoding="utf-8"))
            await owner.execute("CREATE TABLE later (id bigint PRIMARY KEY)")
            async with open_connection(server.dsn("app", user="ayb_relay")) as relay:
                await migrate(relay)
                patterns = [parse_pattern("public.*")]
                assert await Capture(relay, patterns, lock_milliseconds=500).install() == []
            await owner.execute("INSERT INTO posts VALUES (1); INSERT INTO later VALUES (1)")
        async with open_connection(server.dsn("app", user="ayb_gateway")) as gateway:
            assert await gateway.fetchval("SELECT count(*) FROM ayb_realtime.changes") == 2


async def test_gateway_reads_the_outbox_only(database):
    """The gateway's login reads the outbox and can neither write it nor read the users' tables."""
    await database.execute("CREATE TABLE posts (id bigint)")
    async with database.connect(database.gateway_dsn) as gateway:
        for table in ("changes", "batches", "epochs", "horizon"):
            await gateway.fetch(f"SELECT * FROM ayb_realtime.{table}")
        for refused in (
            OUTBOX,
            "UPDATE ayb_realtime.horizon SET first_batch = 2",
            "TRUNCATE ayb_realtime.changes",
            "SELECT setval('ayb_realtime.change_seq', 1)",
            "CREATE TABLE ayb_realtime.mine ()",
            "TABLE posts",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await gateway.execute(refused)


async def test_gateway_cannot_write_through_capture(database):
    """The gateway's login may not put a capture trigger on a table of its own."""
    async with database.connect(database.gateway_dsn) as gateway:
        await gateway.execute("CREATE TEMP TABLE own (id int)")
        for function in ("capture_row", "capture_truncate"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await gateway.execute(
                    "CREATE TRIGGER t AFTER INSERT ON own FOR EACH STATEMENT "
                    f"EXECUTE FUNCTION ayb_realtime.{function}()"
                )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await gateway.execute("SELECT ayb_realtime.stop_when_full()")


async def test_gateway_acts_as_a_user_only_on_demand(database):
    """What ayb_authenticated may read, the gateway may read after SET ROLE and not before."""
    await database.execute(
        "CREATE TABLE posts (id bigint); GRANT SELECT ON posts TO ayb_authenticated"
    )
    async with database.connect(database.gateway_dsn) as gateway:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await gateway.fetch("TABLE posts")
        await gateway.execute("SET ROLE ayb_authenticated")
        assert await gateway.fetch("TABLE posts") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await gateway.fetch("TABLE ayb_realtime.changes")


async def test_relay_may_not_read_tables(database):
    """The relay's login can put a trigger on a user's table, present or later, but not read it."""
    await database.execute("CREATE TABLE posts (id bigint)")
    async with database.connect(database.relay_dsn) as relay:
        await relay.execute(
            "CREATE TRIGGER capture AFTER INSERT ON posts "
            "FOR EACH ROW EXECUTE FUNCTION ayb_realtime.capture_row()"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await relay.fetch("TABLE posts")
        for refused in ("INSERT INTO posts VALUES (1)", "CREATE SCHEMA another"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await relay.execute(refused)


@pytest.fixture
def own_server(server_dir):
    """A server whose roles are the test's own."""
    with new_postgres(server_dir / f"roles-{secrets.token_hex(4)}") as server:
        yield server


async def _relay(server, *arguments, user="postgres", database="postgres"):
    """Run a command of the relay; return its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", *arguments, cwd=PROJECT,
        env={**os.environ, "AYB_DATABASE_URL": server.dsn(database, user=user),
             "AYB_REDIS_URL": "redis://127.0.0.1:1", "AYB_LOG_LEVEL": "error"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert b"Traceback" not in output
    return process.returncode, output.decode()


async def _psql(server, sql, *, user="postgres", database="postgres"):
    """Run SQL as an operator does; return what psql printed."""
    # Not every build has a psql; the package's works on older servers too.
    packaged = PostgresServer(server.data_dir, port=server.port)
    process = await asyncio.create_subprocess_exec(
        packaged.program("psql"), "--quiet", "--no-psqlrc", server.dsn(database, user=user),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate(sql.encode())
    assert process.returncode == 0
    return output.decode()


async def test_tables_of_others_are_named(own_server):
    """An owner grants what is the owner's; tables of others, as PostGIS makes, are in a warning."""
    status, script = await _relay(own_server, "roles", "--schema", "public", "--schema", "my-app")
    assert status == 0
    async with open_connection(own_server.dsn()) as superuser:
        await superuser.execute("""
            CREATE ROLE app_owner LOGIN CREATEROLE;
            GRANT CREATE ON DATABASE postgres TO app_owner;
            GRANT CREATE ON SCHEMA public TO app_owner;
            CREATE TABLE aaa_spatial_ref_sys (id int);
        """)
    async with open_connection(own_server.dsn(user="app_owner")) as owner:
        await owner.execute("""
            CREATE TABLE posts (id bigint PRIMARY KEY);
            CREATE SCHEMA "my-app"; CREATE TABLE "my-app"."Orders" (id bigint PRIMARY KEY);
        """)
        said = await _psql(own_server, script, user="app_owner")
        assert "ERROR" not in said
        (warning,) = [line for line in said.splitlines() if "WARNING" in line]
        assert warning.endswith(": public.aaa_spatial_ref_sys")
        await owner.execute('CREATE TABLE "my-app".later (id bigint PRIMARY KEY)')
    async with open_connection(own_server.dsn(user="ayb_relay")) as relay:
        for table in ("public.posts", '"my-app"."Orders"', '"my-app".later'):
            assert await relay.fetchval("SELECT has_table_privilege($1, 'TRIGGER')", table)
    assert (await _relay(own_server, "install", user="ayb_relay"))[0] == 1  # the table of another
    assert "WARNING" not in await _psql(own_server, script)


async def test_installed_before_the_roles(own_server):
    """Roles that come after the schema get it, with the rights that they would have had."""
    async with open_connection(own_server.dsn()) as superuser:
        await superuser.execute("CREATE TABLE posts (id bigint PRIMARY KEY)")
    assert (await _relay(own_server, "install"))[0] == 0
    _, script = await _relay(own_server, "roles")
    assert "ERROR" not in await _psql(own_server, script)
    assert (await _relay(own_server, "install", user="ayb_relay"))[0] == 0
    async with open_connection(own_server.dsn(user="ayb_gateway")) as gateway:
        await gateway.fetch("TABLE ayb_realtime.changes")
        for function, allowed in (("stop_when_full", False), ("readable_columns", True)):
            assert allowed is await gateway.fetchval(
                "SELECT has_function_privilege(oid, 'EXECUTE') FROM pg_proc "
                "WHERE pronamespace = 'ayb_realtime'::regnamespace AND proname = $1",
                function,
            )


async def _traces(server):
    """What a database holds of roles, schemas, triggers, functions and default rights."""
    async with open_connection(server.dsn()) as superuser:
        return await superuser.fetch("""
            SELECT 'role', rolname::text FROM pg_roles
            UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname !~ '^pg_'
            UNION ALL SELECT 'trigger', tgname FROM pg_trigger
            UNION ALL SELECT 'rights', defaclacl::text FROM pg_default_acl
            UNION ALL SELECT 'grants', relacl::text FROM pg_class WHERE relname = 'posts'
            ORDER BY 1, 2
        """)


@pytest.mark.parametrize("by", ["command", "psql"])
async def test_uninstall_leaves_nothing(own_server, by):
    """After it the database is as it was before `roles` and `install`."""
    async with open_connection(own_server.dsn()) as superuser:
        await superuser.execute("CREATE TABLE posts (id bigint PRIMARY KEY)")
    before = await _traces(own_server)
    _, script = await _relay(own_server, "roles")
    await _psql(own_server, script)
    assert (await _relay(own_server, "install", user="ayb_relay"))[0] == 0
    assert await _traces(own_server) != before
    async with open_connection(own_server.dsn(user="ayb_gateway")):
        status, said = await _relay(own_server, "uninstall")
        assert (status, "still connected" in said) == (1, True)
    if by == "command":
        status, said = await _relay(own_server, "uninstall")
        assert (status, "warning" in said) == (0, False)
    else:
        _, script = await _relay(own_server, "uninstall", "--print")
        assert await _psql(own_server, script) == ""
    after = await _traces(own_server)
    assert [row for row in after if row[0] != "grants"] == [
        row for row in before if row[0] != "grants"
    ]
    assert not [row for row in after if "ayb_" in (row[1] or "")]


async def test_uninstall_keeps_what_is_yours(own_server):
    """The users' role stays where policies or grants name it, and is named."""
    _, script = await _relay(own_server, "roles")
    await _psql(own_server, script)
    async with open_connection(own_server.dsn()) as superuser:
        await superuser.execute("""
            CREATE TABLE posts (id bigint); GRANT SELECT ON posts TO ayb_authenticated;
            CREATE POLICY p ON posts TO ayb_authenticated USING (true);
        """)
        status, said = await _relay(own_server, "uninstall")
        assert status == 0
        assert "role ayb_authenticated stays" in said
        assert await superuser.fetchval("SELECT count(*) FROM pg_policy") == 1


@pytest.mark.parametrize("command", ["run", "install", "doctor"])
async def test_a_login_without_rights(own_server, command):
    """One line that says what to do."""
    async with open_connection(own_server.dsn()) as superuser:
        await superuser.execute("CREATE ROLE nobody_special LOGIN; CREATE TABLE posts (id int)")
        assert (await _relay(own_server, "install"))[0] == 0
    status, said = await _relay(own_server, command, user="nobody_special")
    assert status == 1
    assert "relay roles" in said
    if command != "doctor":
        assert len(said.splitlines()) == 1
