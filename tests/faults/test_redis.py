"""Redis fails under load: events come later, but each client gets every change it may see, once and
in order.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import redis.asyncio as redis

from devstack.servers import ValkeyServer, free_port
from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.bus import channels_of
from tests.support.proxy import Proxy
from tests.support.waits import gateway_says


async def test_restarted(arena: Arena):
    """A restart of Redis loses nothing and repeats nothing."""
    async with arena.load():
        await arena.stack.restart("valkey")
        await gateway_says(arena.stack, "ok", part="bus")
    await arena.settle()


async def test_killed(arena: Arena):
    """A Redis that is killed repeatedly loses nothing and repeats nothing."""
    async with arena.load():
        for _ in range(3):
            await arena.stack.kill("valkey")
            await arena.written(300)
            await arena.stack.start("valkey")
            await gateway_says(arena.stack, "ok", part="bus")
    await arena.settle()


async def test_stopped(arena: Arena):
    """While Redis is away events are found by polling; when it is back they are pushed again."""
    async with arena.load(pause=0.3):
        await arena.stack.stop("valkey")
        await gateway_says(arena.stack, "polling", part="bus")
        told = len(arena.readers[0].seen)
        async with asyncio.timeout(30):
            while len(arena.readers[0].seen) < told + 1_000:
                arena.readers[0].moved.clear()
                await arena.readers[0].moved.wait()
        await arena.stack.start("valkey")
        await gateway_says(arena.stack, "ok", part="bus")
    await arena.settle()


async def test_frozen(arena: Arena):
    """A frozen Redis counts as one that is away, although its connections stay open."""
    async with arena.load(pause=0.3):
        arena.stack.pause("valkey")
        await gateway_says(arena.stack, "polling", part="bus")
        await arena.written(1_000)
        arena.stack.resume("valkey")
        await gateway_says(arena.stack, "ok", part="bus")
    await arena.settle()


async def test_subscriber_cut_for_its_buffer(arena: Arena):
    """A gateway that Redis cuts off for its output buffer subscribes again and misses nothing."""
    async with arena.load(), redis.from_url(arena.stack.valkey.url) as client:
        await client.config_set("client-output-buffer-limit", "pubsub 262144 0 0")
        arena.stack.pause("gateway")
        async with asyncio.timeout(30):
            tick = (await channels_of(arena.stack.database)).tick
            while await client.pubsub_numsub(tick) != [(tick.encode(), 0)]:
                await client.publish(tick, b"x" * 1_000_000)
        await arena.written(500)
        arena.stack.resume("gateway")
        await gateway_says(arena.stack, "ok", part="bus")
    await arena.settle()


async def test_out_of_one_gateways_reach(open_arena: OpenArena, own_valkey: ValkeyServer):
    """If a single gateway cannot reach Redis it polls, and its clients get what all others get."""
    async with Proxy(own_valkey.port) as proxy:
        arena = await open_arena()
        await arena.stack.add_gateway("far", AYB_REDIS_URL=proxy.lead(own_valkey.url))
        arena.add_readers(lambda: arena.stack.url("far"))
        async with arena.load(pause=0.3):
            proxy.refuse()
            await gateway_says(arena.stack, "polling", part="bus", gateway="far")
            await gateway_says(arena.stack, "ok", part="bus")
            await arena.written(1_000)
            proxy.heal()
            await gateway_says(arena.stack, "ok", part="bus", gateway="far")
            await arena.written(1_000)
            proxy.discard()
            await gateway_says(arena.stack, "polling", part="bus", gateway="far")
            proxy.heal()
            await gateway_says(arena.stack, "ok", part="bus", gateway="far")
        await arena.settle()
        await arena.stack.stop("far")


async def test_out_of_the_relays_reach(open_arena: OpenArena, own_valkey: ValkeyServer):
    """While only the relay cannot reach Redis, or its messages are dropped, gateways poll."""
    async with Proxy(own_valkey.port) as proxy:
        arena = await open_arena(relay={"AYB_REDIS_URL": proxy.lead(own_valkey.url)})
        async with arena.load(pause=0.3):
            for fault in (proxy.refuse, proxy.discard):
                fault()
                await gateway_says(arena.stack, "polling", part="bus")
                await arena.written(1_000)
                proxy.heal()
                await gateway_says(arena.stack, "ok", part="bus")
        await arena.settle()
        await arena.stack.stop("relay")


async def test_one_region_of_two(
    open_arena: OpenArena, own_valkey: ValkeyServer, server_dir: Path, tmp_path: Path
):
    """If one region's Redis dies or freezes, its gateways poll while events are pushed to the other
    region, and the clients of both get everything.
    """
    with ValkeyServer(server_dir / f"far-{tmp_path.name}", port=free_port()) as far:
        arena = await open_arena(
            readers=False, relay={"AYB_REDIS_URL": f"{own_valkey.url},{far.url}"}
        )
        await arena.stack.add_gateway("far", AYB_REDIS_URL=far.url)
        for name in ("gateway", "far"):
            arena.add_readers(partial(arena.stack.url, name))
        async with arena.load(pause=0.3):
            await asyncio.to_thread(far.kill)
            await gateway_says(arena.stack, "polling", part="bus", gateway="far")
            await gateway_says(arena.stack, "ok", part="bus")
            await arena.written(1_000)
            far.start()
            await gateway_says(arena.stack, "ok", part="bus", gateway="far")
            far.pause()
            await gateway_says(arena.stack, "polling", part="bus", gateway="far")
            await gateway_says(arena.stack, "ok", part="bus")
            await arena.written(1_000)
            far.resume()
            await gateway_says(arena.stack, "ok", part="bus", gateway="far")
        await arena.settle()
        await arena.stack.stop("far")
