"""Arenas for the fault tests. `AYB_FAULT_SEED` replays a run; otherwise each has its own seed."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import fault_world
from tests.support.arena import Arena
from tests.support.stack import Stack

if TYPE_CHECKING:
    from tests.support.stack_fixtures import StartStack

OpenArena = Callable[..., Awaitable[Arena]]

RELAY = {"AYB_REALTIME_TABLES": fault_world.CAPTURED, "AYB_LOG_LEVEL": "info"}
GATEWAY = {
    "AYB_REALTIME_HEARTBEAT_SECONDS": "1",
    "AYB_REALTIME_VERIFY": "0",
    "AYB_LOG_LEVEL": "info",
}


@pytest.fixture
def seed() -> int:
    """The seed of this run, printed, so that a failure can be replayed."""
    value = int(os.environ.get("AYB_FAULT_SEED") or secrets.randbelow(1_000_000))
    print(f"seed {value}")
    return value


@pytest.fixture
async def open_arena(start_stack: StartStack, seed: int) -> AsyncIterator[OpenArena]:
    """Open an arena on a stack with the test's own settings."""
    arenas: list[Arena] = []

    async def open_(
        *,
        relay: Mapping[str, str] | None = None,
        gateway: Mapping[str, str] | None = None,
        readers: bool = True,
        **more: Any,
    ) -> Arena:
        stack: Stack = await start_stack(
            relay={**RELAY, **(relay or {})}, gateway={**GATEWAY, **(gateway or {})}, **more
        )
        await stack.create(fault_world.SQL, *fault_world.TABLES)
        arena = Arena(stack, seed)
        arenas.append(arena)
        if readers:
            arena.add_readers()
            await arena.connected()
        return arena

    yield open_
    for arena in arenas:
        await arena.close()


@pytest.fixture
async def arena(open_arena: OpenArena) -> Arena:
    """An arena on one relay and one gateway."""
    return await open_arena()
