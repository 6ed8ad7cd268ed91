"""Long faults: Redis away for a minute, a transaction open for half a minute."""

from __future__ import annotations

import time

from tests.support.arena import Arena
from tests.support.fault_world import USERS, Change, Row
from tests.support.waits import gateway_says

OUTAGE_SECONDS = 60.0
OPEN_SECONDS = 30.0


async def test_redis_away_for_a_minute(arena: Arena):
    """While Redis is away for a minute everything is delivered; when it is back, events are pushed
    again and none is repeated (CASE 24).
    """
    async with arena.load(pause=1.0):
        await arena.stack.stop("valkey")
        end = time.monotonic() + OUTAGE_SECONDS
        await gateway_says(arena.stack, "polling", part="bus")
        while time.monotonic() < end:
            await arena.settle()
            await arena.written(500)
        await gateway_says(arena.stack, "polling", part="bus")
        await arena.stack.start("valkey")
        await gateway_says(arena.stack, "ok", part="bus")
        await arena.written(1_000)
    await arena.settle()


async def test_transaction_open_for_half_a_minute(arena: Arena):
    """A transaction that writes first and commits last delays no other, and is delivered when it
    commits, although the relay was killed meanwhile (CASE 11).
    """
    ledger, stack = arena.ledger, arena.stack
    late = ledger.begin()
    rows = [
        Row("posts", next(ledger.ids), USERS[n % len(USERS)], n % 2 == 0, 1, next(ledger.stamps))
        for n in range(100)
    ]
    late.changes += [Change("create", row) for row in rows]
    async with stack.database.connect() as session:
        transaction = session.transaction()
        await transaction.start()
        await session.executemany(
            "INSERT INTO posts VALUES ($1, $2, $3, $4, 1, $5, 'late')",
            [(row.id, row.author, row.published, row.room, row.stamp) for row in rows],
        )
        began = time.monotonic()
        async with arena.load(pause=0.5):
            while time.monotonic() < began + OPEN_SECONDS:
                await arena.settle()
                await arena.written(500)
                await stack.kill("relay")
                await arena.written(100)
                await stack.start("relay")
            await transaction.commit()
            await ledger.commit(late)
            await arena.settle()
    await arena.settle()
