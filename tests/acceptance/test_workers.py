"""Questions to the database cost it no more than their answers."""

from __future__ import annotations

import asyncio
import uuid

import pytest

KEEN = (
    "parallel_setup_cost = 0",
    "parallel_tuple_cost = 0",
    "min_parallel_table_scan_size = 0",
    "min_parallel_index_scan_size = 0",
)
LAUNCHED = "SELECT parallel_workers_launched FROM pg_stat_database WHERE datname = $1"


async def test_no_question_forks_workers(database, start_stack):
    """Neither relay nor gateway makes the server fork parallel workers, however eager it is to."""
    name = database.name
    async with database.connect() as admin:
        if int(await admin.fetchval("SHOW server_version_num")) < 180_000:
            pytest.skip("only Postgres 18 counts parallel workers")
        for setting in KEEN:
            await admin.execute(f"ALTER DATABASE {name} SET {setting}")
    stack = await start_stack()
    await stack.create(
        "CREATE TABLE posts (id int PRIMARY KEY, author uuid);"
        "ALTER TABLE posts ENABLE ROW LEVEL SECURITY;"
        "GRANT SELECT ON posts TO ayb_authenticated;"
        "CREATE POLICY own ON posts USING (author = current_setting('ayb.user_id')::uuid)",
        "posts",
    )
    user = str(uuid.uuid4())
    async with database.connect() as admin:
        await admin.execute("SET max_parallel_workers_per_gather = 0")
        async with stack.stream("posts", token=stack.token(user)) as client:
            await client.connected()
            for id_ in range(100):
                await admin.execute("INSERT INTO posts VALUES ($1, $2)", id_, user)
            seen = [(await client.next_message()) for _ in range(100)]
        async with stack.stream(
            "posts", token=stack.token(user), last_event_id=seen[0].id
        ) as client:
            for _ in range(99):
                await client.next_message()
        # Backends tell what they counted when they are idle for a second, or end.
        await asyncio.gather(stack.stop("gateway"), stack.stop("relay"))
        assert await admin.fetchval(LAUNCHED, name) == 0
