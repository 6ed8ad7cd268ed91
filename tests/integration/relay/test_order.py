"""Batches by snapshot difference: every committed change once, and in order (CASE 11)."""

from __future__ import annotations

import asyncio
import collections
import json
import random

import asyncpg
import pytest

from shared import outbox

WRITERS = 16
ROWS = 12


async def test_late_committer(database, relays, ear):
    """A transaction that writes first and commits last delays no other and is published when it
    ends.
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.running(), database.connect() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("INSERT INTO t VALUES (0)")
        for number in range(1, 51):
            await database.execute("INSERT INTO t VALUES ($1)", number)
            await ear.changes(number)
        await transaction.commit()
        heard = await ear.changes(51)
        await ear.ticked()
    assert [json.loads(h.new or "")["id"] for h in heard] == [*range(1, 51), 0]
    assert heard[-1].change.seq == min(h.change.seq for h in heard)
    assert len(heard) == 51


@pytest.mark.parametrize("notify", ["on", "off"])
async def test_random_writers(database, relays, ear, notify):
    """Sixteen writers with rollbacks, savepoints, deadlocks and long transactions: each committed
    change is published once, and the changes of one row form a chain from its first image to its
    last.
    """
    seed = random.randrange(1 << 30)
    print("seed", seed)
    await database.execute(f"""
        CREATE TABLE t (id int PRIMARY KEY, v bigint);
        INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g;
        CREATE TABLE log (tag text);
    """)
    async with relays.running(relay_notify=notify, realtime_batch_changes=20):
        await asyncio.gather(*(_write(database, seed, n) for n in range(WRITERS)))
        async with database.connect() as session:
            tags = [row["tag"] for row in await session.fetch("TABLE log")]
            final = dict(await session.fetch("SELECT id, v FROM t"))
            updates = await session.fetchval("SELECT sum(v) FROM t")
        await ear.until(lambda: len(ear.heard) >= len(tags) + updates)
        await ear.ticked()
    told = collections.Counter(
        json.loads(h.new or "")["tag"] for h in ear.heard if h.table == "public.log"
    )
    assert told == collections.Counter(tags)
    assert max(told.values()) == 1
    rows = dict.fromkeys(range(1, ROWS + 1), 0)
    for one in ear.heard:
        if one.table == "public.t":
            old, new = json.loads(one.old or ""), json.loads(one.new or "")
            assert old["v"] == rows[new["id"]]
            rows[new["id"]] = new["v"]
    assert rows == final
    numbers = [tick.batch for tick in ear.ticks]
    assert sorted(set(numbers)) == list(range(numbers[0], numbers[-1] + 1))
    await _check_replay(database, ear)


async def _write(database, seed, number):
    chance = random.Random(seed + number)
    async with database.connect() as session:
        await session.execute("SET deadlock_timeout = '20ms'")
        for turn in range(25):
            try:
                async with session.transaction():
                    for step in range(chance.randint(1, 4)):
                        await _write_some(session, chance, f"{number}/{turn}/{step}")
                    if chance.random() < 0.1:
                        await asyncio.sleep(chance.random() / 3)
                    if chance.random() < 0.2:
                        raise _RolledBackError
            except (_RolledBackError, asyncpg.DeadlockDetectedError):
                pass


async def _write_some(session, chance, tag):
    await session.execute("INSERT INTO log VALUES ($1)", tag)
    await session.execute("UPDATE t SET v = v + 1 WHERE id = $1", chance.randint(1, ROWS))
    if chance.random() < 0.3:
        try:
            async with session.transaction():
                await session.execute("INSERT INTO log VALUES ($1)", f"{tag} rolled back")
                await session.execute(
                    "UPDATE t SET v = v + 1 WHERE id = $1", chance.randint(1, ROWS)
                )
                raise _RolledBackError
        except _RolledBackError:
            pass


class _RolledBackError(Exception):
    pass


async def _check_replay(database, ear):
    """A gateway that reads a batch again gets what was published, byte for byte and number for
    number.
    """
    published = collections.defaultdict(dict)
    for message in ear.messages:
        published[message.batch][message.content.table] = message.content
    async with database.connect(database.gateway_dsn) as gateway:
        state = await outbox.log_state(gateway)
        first = state.first_batches[1]
        after, batches = first - 1, []
        while after < state.last_batch:
            more = await outbox.read_batches(
                gateway,
                after=after,
                upto=state.last_batch,
                tables=["public.t", "public.log"],
                relids=[],
                most_batches=7,
            )
            after = more[-1].id
            batches += more
        only_log = await outbox.read_batches(
            gateway, after=first - 1, upto=state.last_batch, tables=["public.log"], relids=[]
        )
    assert [batch.id for batch in batches] == list(range(first, state.last_batch + 1))
    for batch in batches:
        assert {table.table: _plain(table) for table in batch.tables} == {
            name: _plain(table) for name, table in published[batch.id].items()
        }
    for batch in only_log:
        assert [_plain(table) for table in batch.tables] == [
            _plain(table) for table in published[batch.id].values() if table.table == "public.log"
        ]


def _plain(table):
    return (
        table.table,
        table.relid,
        table.key,
        [
            (c.index, c.seq, c.op, c.new_image, c.old_image, c.truncated, c.lost)
            for c in table.changes
        ],
    )
