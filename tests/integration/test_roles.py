"""docs/sql/roles.sql: what each login may do, and no more."""

from __future__ import annotations

import asyncpg
import pytest

from devstack.servers import PostgresServer, free_port
from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.schema.migrate import migrate
from tests.support.databases import ROLES_SQL, open_connection

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
        for function in ("capture_row", "capture_row_computed", "capture_truncate"):
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
