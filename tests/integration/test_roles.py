"""docs/sql/roles.sql: what each login may do, and no more."""

from __future__ import annotations

import asyncpg
import pytest

from tests.conftest import ROLES_SQL

OUTBOX = "INSERT INTO ayb_realtime.changes (relid, op) VALUES (1, 'I')"


async def test_again_does_no_harm(database):
    """The script may run twice, also after the relay has made its schema."""
    await database.execute(ROLES_SQL.read_text(encoding="utf-8"))
    await database.execute(ROLES_SQL.read_text(encoding="utf-8"))


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
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await relay.execute("INSERT INTO posts VALUES (1)")
