"""A network path that acknowledges data and then drops it, so that neither end notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx

from relay.session.watchdog import PATIENCE_SECONDS
from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.proxy import Proxy
from tests.support.stack import Stack


@contextlib.asynccontextmanager
async def relay_through(arena: Arena, matching: bytes) -> AsyncIterator[Proxy]:
    """Connect the relay through a proxy whose faults affect one of its connections."""
    stack = arena.stack
    async with Proxy(stack.postgres.port, matching=matching) as proxy:
        await stack.stop("relay")
        stack.set("relay", AYB_DATABASE_URL=proxy.lead(stack.database.relay_dsn))
        await stack.start("relay")
        yield proxy
        await stack.stop("relay")


async def test_reading_swallowed(open_arena: OpenArena):
    """A relay whose queries are dropped notices, ends its old session, and continues."""
    arena = await open_arena()
    async with relay_through(arena, b"ayb-relay\0") as proxy:
        async with arena.load(pause=0.3):
            proxy.discard_present()
            await logged(arena.stack, "the connection swallows what it carries")
            await logged(arena.stack, "ended the lost session")
            assert proxy.discarded
        await arena.settle()


async def test_busy_session_is_left_alone(arena: Arena):
    """A session that is busy for long is checked, and left alone."""
    async with (
        arena.load(pause=0.5),
        arena.stack.database.connect() as session,
        session.transaction(),
    ):
        await session.execute("LOCK TABLE ayb_realtime.batches")
        await asyncio.sleep(2 * PATIENCE_SECONDS + 3)
        looked_up = await arena.stack.rows(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'ayb-relay' "
            "AND wait_event_type = 'Lock' AND now() - query_start > $1 * interval '1 s'",
            PATIENCE_SECONDS,
        )
        assert looked_up
    await arena.settle()
    await counts(arena.stack, "ayb_relay_reconnects_total 0.0")


async def test_notifications_swallowed(open_arena: OpenArena):
    """A sleeping relay that no notification reaches finds the changes by polling, and sleeps no
    more.
    """
    arena = await open_arena()
    async with relay_through(arena, b"ayb-relay listen") as proxy:
        await counts(arena.stack, "ayb_relay_sleeping 1.0")
        proxy.discard_present()
        for _ in range(3):
            await counts(arena.stack, "ayb_relay_sleeping 1.0")
            # A change that every client receives.
            await arena.settle()
        await counts(arena.stack, "ayb_relay_missed_wakes_total 3.0")
        await counts(arena.stack, "ayb_relay_sleeping 0.0")
        async with arena.load(pause=0.2):
            pass
        await arena.settle()
        assert "notifications do not arrive" in arena.stack.log("relay")


async def logged(stack: Stack, words: str, seconds: float = 60.0) -> None:
    """Wait for a text in the relay's log."""
    async with asyncio.timeout(seconds):
        while words not in stack.log("relay"):  # noqa: ASYNC110 (a file has no event)
            await asyncio.sleep(0.1)


async def counts(stack: Stack, line: str, seconds: float = 30.0) -> None:
    """Wait for a line on the relay's metrics page."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http, asyncio.timeout(seconds):
        while line not in (await http.get(f"{stack.url('relay')}/metrics")).text.splitlines():  # noqa: ASYNC110 (another process counts)
            await asyncio.sleep(0.02)
