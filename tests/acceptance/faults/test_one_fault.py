"""One component fails in one way, under load: every change once, in order, to who may see it."""

from __future__ import annotations

import asyncio

from tests.acceptance.faults.arena import Arena
from tests.acceptance.faults.crash import crash


async def test_redis_restart(arena: Arena):
    """A restart of Redis loses nothing and repeats nothing."""
    async with arena.load():
        await arena.stack.restart("valkey")
    await arena.settle()


async def test_relay_killed(arena: Arena):
    """A relay killed in the middle of its batches goes on where it was."""
    async with arena.load():
        for _ in range(3):
            await arena.stack.kill("relay")
            await arena.stack.start("relay")
            await arena.written(500)
    await arena.settle()


async def test_gateway_killed(arena: Arena):
    """Clients of a gateway that was killed resume at the next one."""
    async with arena.load():
        for _ in range(2):
            await arena.stack.kill("gateway")
            await arena.stack.start("gateway")
            await arena.connected()
            await arena.written(500)
    await arena.settle()


async def test_postgres_restarted(arena: Arena):
    """A restart of Postgres costs time only."""
    async with arena.load():
        await arena.stack.restart("postgres")
    await arena.settle()


async def test_postgres_crashed(arena: Arena):
    """After a crash of Postgres every change is told, or `resync` where numbers were taken back."""
    async with arena.load():
        await asyncio.to_thread(crash, arena.stack.postgres)
        await arena.stack.start("postgres")
    await arena.settle(may_resync=True)


async def test_sockets_cut_again_and_again(arena: Arena):
    """Clients whose sockets are cut all the time under load miss nothing and get nothing twice."""
    cuts = 0
    async with arena.load(pause=0.05):
        while arena.ledger.count < 9_000:
            arena.random.choice(arena.readers).cut()
            cuts += 1
            await asyncio.sleep(arena.random.uniform(0.01, 0.05))
    await arena.settle()
    assert cuts > 50
