"""A gateway fails, or a client's connection to it: each client still gets every change it may see,
once and in order.
"""

from __future__ import annotations

import asyncio

from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.proxy import Proxy
from tests.support.waits import gateway_says


async def test_killed(arena: Arena):
    """Clients of a gateway that was killed resume at another one."""
    async with arena.load():
        for _ in range(2):
            await arena.stack.kill("gateway")
            await arena.written(500)
            await arena.stack.start("gateway")
            await arena.connected()
            await arena.written(500)
    await arena.settle()


async def test_restarted(arena: Arena):
    """An orderly restart of a gateway loses nothing."""
    async with arena.load():
        assert await arena.stack.stop("gateway") == 0
        await arena.written(500)
        await arena.stack.start("gateway")
        await arena.connected()
    await arena.settle()


async def test_frozen(arena: Arena):
    """A gateway that was frozen continues where it was."""
    async with arena.load():
        arena.stack.pause("gateway")
        await arena.written(5_000)
        arena.stack.resume("gateway")
    await arena.settle()


async def test_clients_go_to_and_fro(open_arena: OpenArena):
    """Positions of one gateway hold at another: clients switch between two gateways at each cut."""
    arena = await open_arena(readers=False)
    await arena.stack.add_gateway("second")
    arena.add_readers(lambda: arena.stack.url(arena.random.choice(("gateway", "second"))))
    async with arena.load(pause=0.05):
        while arena.ledger.count < 9_000:
            arena.random.choice(arena.readers).cut()
            await asyncio.sleep(arena.random.uniform(0.01, 0.05))
    await arena.settle()


async def test_sockets_cut_again_and_again(arena: Arena):
    """Clients whose sockets are cut repeatedly under load miss nothing and get nothing twice."""
    async with arena.load(pause=0.05):
        while arena.ledger.count < 9_000:
            arena.random.choice(arena.readers).cut()
            await asyncio.sleep(arena.random.uniform(0.01, 0.05))
    await arena.settle()
    assert sum(reader.connections for reader in arena.readers) > 4 * len(arena.readers)


async def test_read_pool_cut(open_arena: OpenArena, database, postgres_server):
    """Connections of the read pool that are reset or refused delay events but lose none."""
    async with Proxy(postgres_server.port, matching=b"ayb-gateway") as proxy:
        arena = await open_arena(
            gateway={"AYB_READ_DATABASE_URL": proxy.lead(database.gateway_dsn)}
        )
        async with arena.load(pause=0.2):
            for _ in range(5):
                assert proxy.cut()
                await arena.written(300)
            proxy.refuse()
            await gateway_says(arena.stack, "unavailable", part="database")
            await arena.written(1_000)
            proxy.heal()
            await gateway_says(arena.stack, "ok", part="events")
        await arena.settle()
        await arena.stack.stop("gateway")


async def test_read_pool_silent(open_arena: OpenArena, database, postgres_server):
    """A query that a read database never answers is given up after a time, and asked again."""
    async with Proxy(postgres_server.port, matching=b"ayb-gateway") as proxy:
        arena = await open_arena(
            gateway={
                "AYB_READ_DATABASE_URL": proxy.lead(database.gateway_dsn),
                "AYB_REALTIME_STATEMENT_SECONDS": "1",
            }
        )
        async with arena.load(pause=0.3):
            proxy.discard()
            await gateway_says(arena.stack, "held", part="events")
            proxy.heal()
            await gateway_says(arena.stack, "ok", part="events")
        await arena.settle()
        await arena.stack.stop("gateway")
