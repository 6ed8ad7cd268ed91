"""Postgres fails under load: every change once and in order, or `resync` where history was lost."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.crash import crash, frozen
from tests.support.databases import Database, make_template
from tests.support.servers import POSTGRES_SETTINGS, new_postgres
from tests.support.waits import gateway_says


async def test_restarted(arena: Arena):
    """A restart of Postgres costs only time."""
    async with arena.load():
        await arena.stack.restart("postgres")
    await arena.settle()


async def test_crashed(arena: Arena):
    """After crashes of Postgres everything is delivered, or `resync` where batch numbers were taken
    back.
    """
    async with arena.load():
        for _ in range(2):
            await asyncio.to_thread(crash, arena.stack.postgres)
            await arena.stack.start("postgres")
            await arena.written(1_000)
    await arena.settle(may_resync=True)


async def test_crashed_with_a_durable_disk(open_arena: OpenArena, server_dir: Path):
    """The same if Postgres waits for the disk, as it does in production."""
    settings = {**POSTGRES_SETTINGS, "fsync": "on", "full_page_writes": "on"}
    folder = server_dir / f"durable-{secrets.token_hex(4)}"
    with new_postgres(folder, settings) as server:
        await make_template(server, "durable")
        database = Database.on(server, "durable")
        arena = await open_arena(postgres=server, database=database)
        async with arena.load():
            for _ in range(2):
                await asyncio.to_thread(crash, server)
                await arena.stack.start("postgres")
                await arena.written(1_000)
        await arena.settle(may_resync=True)
        await arena.close()
        await arena.stack.close()
    shutil.rmtree(folder, ignore_errors=True)


async def test_frozen(arena: Arena):
    """A Postgres that does not answer for seconds delays events but loses none."""
    async with arena.load():
        with frozen(arena.stack.postgres):
            await gateway_says(arena.stack, "unavailable", part="database")
    await arena.settle()


async def test_backends_ended(arena: Arena):
    """An administrator who ends every session costs only time."""
    async with arena.load():
        for _ in range(3):
            await arena.stack.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename IN ('ayb_relay', 'ayb_gateway')"
            )
            await arena.written(1_000)
    await arena.settle()
