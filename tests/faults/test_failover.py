"""Postgres fails over: its standby becomes the primary, and the batches continue there."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

from tests.support.arena_fixtures import OpenArena
from tests.support.crash import crash
from tests.support.databases import Database, make_template, open_connection
from tests.support.replica import lagging_replica
from tests.support.servers import new_postgres


async def test_standby_takes_over(open_arena: OpenArena, server_dir: Path):
    """After the primary has crashed and its synchronous standby was promoted, every change is
    delivered, or `resync` where the standby did not have the last batch numbers.
    """
    folder = server_dir / f"failover-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o755)
    with new_postgres(folder / "first") as first:
        await make_template(first, "app")
        with lagging_replica(first, folder / "second", delay_seconds=0) as second:
            hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
            writable = "?target_session_attrs=read-write"
            database = Database(
                "app",
                f"postgresql://postgres@{hosts}/app{writable}",
                f"postgresql://ayb_relay@{hosts}/app{writable}",
                f"postgresql://ayb_gateway@{hosts}/app",
            )
            async with open_connection(first.dsn()) as admin:
                # What is answered as committed is on the standby too, as the account demands.
                await admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                await admin.execute("SELECT pg_reload_conf()")
            arena = await open_arena(postgres=first, database=database)
            async with arena.load(pause=0.2):
                await asyncio.to_thread(crash, first)
                async with open_connection(second.dsn()) as standby:
                    assert await standby.fetchval("SELECT pg_promote()")
                await arena.written(3_000)
            await arena.settle(may_resync=True)
            async with arena.stack.stream("posts", token=arena.stack.token()) as client:
                await client.connected()
                assert client.last_event_id.count(".") == 1, "another epoch"
            await arena.close()
            await arena.stack.close()
    shutil.rmtree(folder, ignore_errors=True)
