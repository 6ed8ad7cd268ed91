"""Random faults, two at a time, to show what no single fault shows."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.crash import crash

PROCESSES = ("relay", "gateway", "second")
ROUNDS = 5


@pytest.mark.parametrize("may_crash", [False, True])
async def test_two_at_a_time(open_arena: OpenArena, may_crash: bool):
    """Whatever fails together, every change arrives once (or `resync`, if Postgres crashed)."""
    arena = await open_arena(readers=False)
    await arena.stack.add_gateway("second")
    arena.add_readers(lambda: arena.stack.url(arena.random.choice(("gateway", "second"))))
    async with arena.load(pause=0.2):
        for _ in range(ROUNDS):
            parts = arena.random.sample((*PROCESSES, "valkey", "postgres", "clients"), 2)
            await asyncio.gather(*(fail(arena, part, may_crash=may_crash) for part in parts))
            for name in PROCESSES:
                await arena.stack.ready(name)
            await arena.written(300)
    await arena.settle(may_resync=may_crash)


async def fail(arena: Arena, part: str, *, may_crash: bool) -> None:
    """Let one part fail in one of its ways, and recover."""
    stack, ways = arena.stack, ["restart", "freeze", "kill"]
    if part == "postgres":
        ways = ["crash"] if may_crash else ["restart"]
    if part == "clients":
        ways = ["cut"]
    way = arena.random.choice(ways)
    print(f"{part}: {way}")
    match way:
        case "cut":
            for reader in arena.readers:
                reader.cut()
        case "freeze":
            stack.pause(part)
            await asyncio.sleep(arena.random.uniform(0.1, 2.0))
            stack.resume(part)
        case "crash":
            await asyncio.to_thread(crash, stack.postgres)
            await asyncio.to_thread(stack.postgres.start)
        case "kill":
            await stack.kill(part)
            await back(arena, part)
        case "restart":
            await stack.stop(part)
            await back(arena, part)


async def back(arena: Arena, part: str) -> None:
    """Start a part; it need not be ready while another one is away."""
    if part in PROCESSES:
        arena.stack.launch(part)
    else:
        await arena.stack.start(part)
