"""Three regions far apart: distance, cuts, thin lines, moves between them, and failover."""

from __future__ import annotations

import asyncio
import random
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.arena import Arena
from tests.support.arena_fixtures import RELAY, OpenArena
from tests.support.crash import crash
from tests.support.databases import Database, open_connection
from tests.support.regions import Regions, three_regions
from tests.support.stack import Stack


@pytest.fixture
async def regions(server_dir: Path) -> AsyncIterator[Regions]:
    """Three regions, without relay and gateways."""
    folder = server_dir / f"regions-{secrets.token_hex(4)}"
    async with three_regions(folder) as lab:
        yield lab
    shutil.rmtree(folder, ignore_errors=True)


async def open_world(open_arena: OpenArena, lab: Regions, **content: str) -> Arena:
    """Open an arena with a gateway in each region; `content` is what the relay sends to B and C."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in (lab.primary, lab.b.postgres))
    writable = "?target_session_attrs=read-write"
    arena = await open_arena(
        readers=False,
        postgres=lab.primary,
        valkey=lab.valkey,
        database=Database(
            "app",
            f"postgresql://postgres@{hosts}/app{writable}",
            lab.primary.dsn("app", user="ayb_relay"),
            lab.primary.dsn("app", user="ayb_gateway"),
        ),
        relay={"AYB_REDIS_URL": lab.redis_urls(**content)},
    )
    await lab.replicated(lab.b, lab.c)
    for region in (lab.b, lab.c):
        await arena.stack.add_gateway(region.name, **region.gateway_settings)  # type: ignore[arg-type]
    return arena


async def move(arena: Arena, *, seconds: float) -> None:
    """Have clients reconnect, each to a region of its choice, again and again."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        for reader in arena.readers:
            if arena.random.random() < 0.3:
                reader.cut()
        await asyncio.sleep(0.3)


async def test_moves_cuts_and_thin_lines(open_arena: OpenArena, regions: Regions):
    """Clients move between regions under load, while one region is cut off, one loses what it is
    sent without notice, and one has a thin line: nothing is lost, repeated or out of order.
    """
    arena = await open_world(open_arena, regions, b="compressed", c="ticks")
    stack, chance = arena.stack, random.Random(arena.random.random())
    arena.add_readers(lambda: stack.url(chance.choice(["gateway", "b", "c"])))
    arena.add_readers(lambda: stack.url("c"))
    b, c = regions.b, regions.c
    async with arena.load(pause=0.2):
        await move(arena, seconds=3)
        for line in c.lines:
            line.refuse()
        b.redis_line.bytes_a_second = 20_000
        await move(arena, seconds=4)
        for line in c.lines:
            line.heal()
        b.redis_line.bytes_a_second = None
        for line in b.lines:
            line.discard()
        await move(arena, seconds=4)
        for line in b.lines:
            line.heal()
        await move(arena, seconds=2)
    await arena.settle()


async def test_failover_with_an_old_primary_that_is_not_fenced(
    open_arena: OpenArena, regions: Regions, start_stack
):
    """B's replica is promoted while the old primary still runs: both relays say loudly that there
    are two. Once the old primary is fenced, and C follows B, every change is delivered there.
    """
    arena = await open_world(open_arena, regions)
    stack, chance = arena.stack, random.Random(arena.random.random())
    arena.add_readers(lambda: stack.url(chance.choice(["b", "c"])))
    b, c = regions.b, regions.c
    async with arena.load(pause=0.2, changes=2_000):
        pass
    await regions.replicated(b, c)
    # What C gets from the old primary after B was promoted, B never has: C could not follow B.
    c.wal_line.refuse()
    second: Stack = await start_stack(
        relay={
            **RELAY,
            "AYB_DATABASE_URL": b.postgres.dsn("app", user="ayb_relay"),
            "AYB_REDIS_URL": regions.redis_urls(),
        },
        start=False,
    )
    second.launch("relay")  # waits for a server that it can write to
    async with open_connection(b.postgres.dsn()) as standby:
        assert await standby.fetchval("SELECT pg_promote()")
    for relay in (stack, second):
        await _reports(relay, "another relay leads too")
    await stack.stop("relay")
    await asyncio.to_thread(crash, regions.primary)
    async with open_connection(c.postgres.dsn()) as replica:
        await replica.execute(f"ALTER SYSTEM SET primary_conninfo = '{b.postgres.dsn()}'")
        await replica.execute("SELECT pg_reload_conf()")
    async with arena.load(pause=0.2, changes=arena.ledger.count + 2_000):
        await move(arena, seconds=2)
    await arena.settle(may_resync=True)
    await _reports(second, "ok\n", whole=True)
    await arena.close()
    await stack.close()


async def _reports(stack: Stack, words: str, *, whole: bool = False) -> None:
    """Wait until a relay's readiness says so."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http, asyncio.timeout(60):
        while True:
            try:
                text = (await http.get(f"{stack.url('relay')}/readyz")).text
            except httpx.HTTPError:
                text = ""
            if text == words or (not whole and words in text):
                return
            await asyncio.sleep(0.1)
