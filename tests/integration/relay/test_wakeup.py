"""The sleep lock: NOTIFY only when needed, and no missed wake-up."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest

from relay import loop
from relay.metrics import RelayMetrics
from relay.session.wakeup import Listener, ListenError, SleepLock
from tests.integration.relay.conftest import eventually, is_leading

LOCK = "SELECT pg_try_advisory_xact_lock_shared(4707185, 1)"


async def test_no_wakeup_is_missed(database, relays, ear, monkeypatch):
    """Without its timed poll, a relay that repeatedly falls asleep and wakes, under writers of
    every pace, still publishes each change.
    """
    monkeypatch.setattr(loop, "TICK_SECONDS", 3600.0)
    await database.execute("CREATE TABLE t (id serial PRIMARY KEY)")
    writers, turns = 8, 150
    async with relays.running() as metrics:
        await asyncio.gather(*(_write(database, n, turns) for n in range(writers)))
        await ear.changes(writers * turns)
        alone = 0
        while not metrics.wakes._value.get():  # on a busy machine it may not have slept so far
            await asyncio.sleep(0.1)
            await database.execute("INSERT INTO t DEFAULT VALUES")
            alone += 1
            heard = await ear.changes(writers * turns + alone)
            assert alone < 100
        heard = await ear.changes(writers * turns + alone)
    assert len({h.new for h in heard}) == writers * turns + alone


async def _write(database, seed, turns):
    chance = random.Random(seed)
    async with database.connect() as session:
        for _ in range(turns):
            async with session.transaction():
                await session.execute("INSERT INTO t DEFAULT VALUES")
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() / 100)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() / 50)


async def test_sleeper_waits_for_silent_writers(database):
    """K cannot be taken while a silent writer is in flight; afterwards, writers see that it is
    taken.
    """
    metrics = RelayMetrics()
    async with database.connect() as reader, database.connect() as writer:
        lock = SleepLock(reader, metrics)
        transaction = writer.transaction()
        await transaction.start()
        assert await writer.fetchval(LOCK)
        assert not await lock.try_take()
        await transaction.commit()
        assert await lock.try_take()
        assert not await writer.fetchval(LOCK)
        await lock.give_back()
        assert await writer.fetchval(LOCK)


async def test_long_writer_does_not_delay_others(database, relays, ear, monkeypatch):
    """While a silent transaction stays open the relay cannot sleep; other changes are published
    anyway.
    """
    monkeypatch.setattr(loop, "TICK_SECONDS", 3600.0)
    await database.execute("CREATE TABLE t (id serial PRIMARY KEY)")
    async with relays.running(), database.connect() as silent, database.connect() as other:
        transaction = silent.transaction()
        while True:
            await transaction.start()
            await silent.execute("INSERT INTO t DEFAULT VALUES")
            if not await silent.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 "
                "AND mode = 'ExclusiveLock'"
            ):
                break
            # The relay slept: make it busy and try again.
            await transaction.rollback()
            transaction = silent.transaction()
            for _ in range(5):
                await other.execute("INSERT INTO t DEFAULT VALUES")
        before = len(ear.heard)
        for number in range(1, 6):
            await other.execute("INSERT INTO t DEFAULT VALUES")
            await ear.until(lambda: len(ear.heard) >= before + number)  # noqa: B023
        await transaction.rollback()


async def test_prepared_transactions(database, relays, ear):
    """Where prepared transactions are possible the relay polls, so PREPARE is never refused."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.running(relay_notify="auto"):
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.changes(1)
        await ear.ticked()
        async with database.connect() as session:
            await session.execute("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'two'")
            await session.execute("INSERT INTO t VALUES (3)")
            await ear.changes(2)
            await session.execute("COMMIT PREPARED 'two'")
        heard = await ear.changes(3)
    assert [h.new for h in heard] == ['{"id":1}', '{"id":3}', '{"id":2}']


async def test_notify_in_a_prepared_transaction(database, relays, ear):
    """With NOTIFY forced on, a sleeping relay makes PREPARE fail: why `auto` is the default."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.running(relay_notify="on"), database.connect() as session:
        await ear.ticked()
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await session.execute("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'two'")


async def test_self_test(database):
    """The self-test passes if NOTIFY arrives, and fails with an error if it does not."""
    metrics = RelayMetrics()
    listener = await Listener.open(database.relay_dsn, metrics)
    try:
        await listener.listen()
        async with database.connect() as other:
            await listener.test(other)
        async with database.connect(database.dsn.rsplit("/", 1)[0] + "/postgres") as elsewhere:
            with pytest.raises(ListenError, match="pooler"):
                await listener.test(elsewhere)
    finally:
        await listener.close()


async def test_lost_listener(database, relays, ear):
    """A LISTEN connection that is cut is noticed; the relay reconnects and continues."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.running() as metrics:
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'ayb-relay listen' AND datname = current_database()"
        )
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.until(lambda: len(ear.heard) > 0)
        await eventually(lambda: metrics.restarts._value.get() and is_leading(metrics))
        await database.execute("INSERT INTO t VALUES (2)")
        await ear.until(lambda: ear.heard[-1].new == '{"id":2}')
