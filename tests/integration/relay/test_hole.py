"""Capture stops at the outbox's bound: what was not captured is always announced as a hole."""

from __future__ import annotations

import asyncio

import pytest

from shared.sql import queries
from tests.integration.relay.test_rotation import FULL, Rig

STOP = "UPDATE ayb_realtime.horizon SET most_bytes = 1; SELECT ayb_realtime.stop_when_full()"
UNBOUND = "UPDATE ayb_realtime.horizon SET most_bytes = 1::bigint << 40"
LONG_AGO = "UPDATE ayb_realtime.generations SET entered_at = now() - interval '10 years'"
"""Longer than a quarter of the rig's retention."""


@pytest.fixture
async def rig(database):
    await database.execute("CREATE TABLE t (id int, v text)")
    async with database.connect() as reader, database.connect() as side:
        rig = await Rig(database, reader, side).open()
        yield rig


async def _blocked(session, pid):
    while not await session.fetchval(
        "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1", pid
    ):
        await session.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")


async def test_stop_while_a_generation_begins(database, rig):
    """Capture that stops while the relay is moving writers on stays stopped until the hole is
    recorded, so no uncaptured change goes unnoticed.
    """
    await database.execute("INSERT INTO t VALUES (1)")
    assert await rig.read() == [1]
    await database.execute(LONG_AGO)
    async with database.connect() as other:
        async with other.transaction():
            await other.execute("LOCK TABLE ayb_realtime.generations IN SHARE ROW EXCLUSIVE MODE")
            turn = asyncio.create_task(rig.rotation.turn())
            await _blocked(other, rig.side.get_server_pid())
            await database.execute(STOP)
            await database.execute("INSERT INTO t VALUES (2)")
        await turn
    await database.execute(UNBOUND)
    await rig.rotation.turn()
    await database.execute("INSERT INTO t VALUES (3)")
    assert await rig.read() == [3]
    assert await rig.reader.fetchval("SELECT count(*) FROM t") == 3
    assert rig.outbox.has_hole_due


@pytest.mark.parametrize("room", [1, 10])
async def test_no_number_comes_twice(database, rig, room):
    """Capture continues beyond all numbers it has used, even if no partition was free when it
    stopped, or the bound has been raised meanwhile: the changes of a transaction that spans the
    stop keep their order.
    """
    for number in range(5):
        await database.execute("INSERT INTO t VALUES ($1)", number)
        assert await rig.read() == [number]
        await database.execute(LONG_AGO)
        await rig.rotation.turn()
    assert await rig.value("SELECT count(*) FROM ayb_realtime.generations") == 6
    await database.execute("INSERT INTO t SELECT generate_series(5, 9)")
    async with database.connect() as slow:
        async with slow.transaction():
            await slow.execute("INSERT INTO t VALUES (10)")
            await database.execute(STOP)
            size = await rig.value("SELECT ayb_realtime.outbox_bytes()")
            await rig.reopen(bytes_=room * size)
            assert await rig.read() == [5, 6, 7, 8, 9]
            for _ in range(2):
                if await rig.value(FULL):
                    await rig.rotation.turn()
            assert not await rig.value(FULL)
            await slow.execute("INSERT INTO t VALUES (11)")
        assert await rig.read() == [10, 11]


async def test_stop_by_a_transaction_that_rolls_back(database, rig):
    """Capture that a transaction has stopped continues once that transaction is rolled back,
    although none of its rows are visible in the partition.
    """
    async with database.connect() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(
            "INSERT INTO t SELECT 0, repeat(md5(g::text), 50) FROM generate_series(1, 5000) g"
        )
        await database.execute(STOP)
        await transaction.rollback()
    bound = await rig.value("SELECT ayb_realtime.outbox_bytes()") // 2
    await rig.reopen(bytes_=bound)
    for _ in range(2):
        assert await rig.read() == []
        await rig.rotation.turn()
    assert not await rig.value(FULL)
    assert await rig.value("SELECT ayb_realtime.outbox_bytes()") < bound


async def test_numbers_never_go_back(database, rig):
    """A relay that was frozen while it moved writers on, and resumes after another one has done so,
    moves them nowhere: the later change of a row keeps the higher number.
    """
    for number in range(3):
        await database.execute("INSERT INTO t VALUES ($1)", number)
        await rig.read()
        await database.execute(LONG_AGO)
        await rig.rotation.turn()
    before = await rig.value("SELECT nextval('ayb_realtime.change_seq')")
    for generation in range(4):
        await rig.side.execute(queries("relay.outbox", "rotation.sql")["enter"], generation)
    assert await rig.value("SELECT nextval('ayb_realtime.change_seq')") == before + 1
