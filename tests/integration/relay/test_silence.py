"""What could keep a change of a captured table out of the outbox without notice."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.outbox.epoch import ensure_epoch

COUNT = "SELECT count(*) FROM ayb_realtime.changes"
TREE = """
    CREATE TABLE p (id int) PARTITION BY RANGE (id);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
    CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
"""


async def _capture(session, *patterns):
    await ensure_epoch(session)
    wanted = [parse_pattern(text) for text in patterns or ("public.*",)]
    await Capture(session, wanted, lock_milliseconds=500).install()


async def _told(session):
    rows = await session.fetch(
        "SELECT relid::regclass::text AS name, op::text, coalesce(new, old) ->> 'id' AS id "
        "FROM ayb_realtime.changes ORDER BY seq"
    )
    return [tuple(row) for row in rows]


async def test_a_lock_on_the_numbers(database):
    """A writer that does not wait for a number fails as at any other lock; it does not continue
    with a change that is never delivered.
    """
    await database.execute("CREATE TABLE t (id int)")
    async with database.connect() as session, database.connect() as operator:
        await _capture(session)
        async with operator.transaction():
            await operator.execute("ALTER SEQUENCE ayb_realtime.change_seq OWNED BY NONE")
            await session.execute("SET lock_timeout = '50ms'")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await session.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await session.execute("TRUNCATE t")
        await session.execute("INSERT INTO t VALUES (2)")
        assert await session.fetch("SELECT id FROM t") == [(2,)]
        assert await session.fetchval(COUNT) == 1


async def test_partition_that_is_being_detached(database):
    """Writes that reach a partition through its root while it is detached are the root's."""
    await database.execute(TREE)
    async with (
        database.connect() as session,
        database.connect() as writer,
        database.connect() as operator,
    ):
        await _capture(session)
        transaction = writer.transaction(isolation="repeatable_read")
        await transaction.start()
        await writer.execute("INSERT INTO p VALUES (1)")
        detach = asyncio.create_task(
            operator.execute("ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY")
        )
        while not await session.fetchval("SELECT bool_or(inhdetachpending) FROM pg_inherits"):
            await session.execute("SELECT pg_sleep(0.01)")
        await writer.execute("INSERT INTO p VALUES (2)")
        await writer.execute("INSERT INTO p1 VALUES (3)")
        await transaction.commit()
        await detach
        assert [id_ for _, _, id_ in await _told(session)] == ["1", "2", "3"]
        assert {name for name, _, _ in await _told(session)} == {"p"}


async def test_disabled_trigger(database):
    """A trigger of ours that was disabled is enabled again, also by a login that does not own the
    table.
    """
    await database.execute("CREATE TABLE t (id int); GRANT TRIGGER ON t TO ayb_relay")
    async with database.connect() as owner, database.connect(database.relay_dsn) as relay:
        await _capture(relay)
        await owner.execute("ALTER TABLE t DISABLE TRIGGER ALL")
        await _capture(relay)
        await owner.execute("INSERT INTO t VALUES (1)")
        await owner.execute("TRUNCATE t")
        assert [op for _, op, _ in await _told(owner)] == ["I", "T"]
