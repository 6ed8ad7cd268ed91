"""Bounds in bytes are bounds of the process, by the kernel's own account."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import redis.asyncio as redis

from shared.channels import Channels
from tests.acceptance.test_large_rows import MIB, Peaks
from tests.support.bus import history_of

if TYPE_CHECKING:
    from tests.support.requirements import Requirements
    from tests.support.stack import Stack

TABLE = """
    CREATE TABLE posts (id int PRIMARY KEY, body text);
    GRANT SELECT ON posts TO ayb_authenticated;
"""
RING_BYTES = 16 * MIB


async def test_messages_without_a_tick(start_stack: Any, require: Requirements) -> None:
    """600 bus messages of 1 MB under one number, whose tick never comes, are not all kept; and
    what is written afterwards arrives.
    """
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_VERIFY": "0"})
    await stack.create(TABLE, "posts")
    relid = (await stack.rows("SELECT 'posts'::regclass::oid::int AS oid"))[0]["oid"]
    history = await history_of(stack.database)
    peaks = Peaks(stack, require)
    async with (
        redis.Redis.from_url(stack.valkey.url) as client,
        stack.stream("posts", token=stack.token()) as reader,
    ):
        await reader.connected()
        row = {"id": 66, "body": "x" * 1_000_000}
        content = ["public.posts", relid, ["id"], [[0, 1, "I", row, None, False, False]]]
        batch = int(reader.last_event_id) + 1
        message = json.dumps([1, history, 1, batch, content])
        for _ in range(600):
            await client.publish(Channels.of(history).table("public.posts"), message)
        await stack.sql("INSERT INTO posts VALUES (1, 'real')")
        while (await reader.next_message(30.0)).json()["record"]["id"] != 1:
            pass
    grown = peaks.grown()["gateway"]
    print("grown by", grown)
    assert grown < 60


async def test_the_ring(start_stack: Any, require: Requirements) -> None:
    """Small rows, which cost most beside their own bytes, fill the ring to its bound only."""
    stack: Stack = await start_stack(
        gateway={"AYB_REALTIME_VERIFY": "0", "AYB_REALTIME_RING_BYTES": str(RING_BYTES)}
    )
    await stack.create(TABLE, "posts")
    async with (
        stack.stream("posts", token=stack.token()) as reader,
        stack.database.connect() as writer,
    ):
        await reader.connected()
        peaks = Peaks(stack, require)
        rows = 120
        for start in range(0, 1_000 * rows, rows):  # batches as they come, not one large one
            await writer.execute(
                "INSERT INTO posts SELECT n, repeat('x', 100) FROM generate_series($1::int, $2) n",
                start,
                start + rows - 1,
            )
            if start % (10 * rows) == 0:
                await reader.take(rows if start == 0 else 10 * rows, 30.0)
                reader.raw.clear()
                reader.events.clear()
    grown = peaks.grown()["gateway"]
    print("grown by", grown)
    assert grown < 3 * RING_BYTES / MIB
