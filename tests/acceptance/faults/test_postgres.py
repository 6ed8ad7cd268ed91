"""Postgres fails, under load: every change once, in order, or `resync` where history was lost."""

from __future__ import annotations

import asyncio

from tests.acceptance.faults.arena import Arena
from tests.acceptance.faults.crash import crash, frozen
from tests.acceptance.faults.waits import gateway_says


async def test_restarted(arena: Arena):
    """A restart of Postgres costs time only."""
    async with arena.load():
        await arena.stack.restart("postgres")
    await arena.settle()


async def test_crashed(arena: Arena):
    """After crashes of Postgres all is told, or `resync` where batch numbers were taken back."""
    async with arena.load():
        for _ in range(2):
            await asyncio.to_thread(crash, arena.stack.postgres)
            await arena.stack.start("postgres")
            await arena.written(1_000)
    await arena.settle(may_resync=True)


async def test_frozen(arena: Arena):
    """A Postgres that answers nothing for seconds delays events, and none is lost."""
    async with arena.load():
        with frozen(arena.stack.postgres):
            await gateway_says(arena.stack, "unavailable", part="database")
    await arena.settle()


async def test_backends_ended(arena: Arena):
    """An administrator who ends every session costs time only."""
    async with arena.load():
        for _ in range(3):
            await arena.stack.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename IN ('ayb_relay', 'ayb_gateway')"
            )
            await arena.written(1_000)
    await arena.settle()
