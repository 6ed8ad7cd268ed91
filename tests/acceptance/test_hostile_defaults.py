"""The worst settings of a database and its roles change nothing (CASE 31)."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import Database, open_connection

if TYPE_CHECKING:
    from devstack.servers import PostgresServer
    from tests.support.stack_fixtures import StartStack

WORST = {
    "array_nulls": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "check_function_bodies": "off",
    "client_min_messages": "error",
    "cursor_tuple_fraction": "0",
    "DateStyle": "German",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "enable_hashjoin": "off",
    "enable_indexscan": "off",
    "enable_nestloop": "off",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "400",
    "IntervalStyle": "iso_8601",
    "jit_above_cost": "0",
    "lock_timeout": "1",
    "plan_cache_mode": "force_custom_plan",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "statement_timeout": "100",
    "synchronous_commit": "off",
    "TimeZone": "Asia/Kolkata",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
    "xmloption": "document",
}
TABLE = """
    CREATE TABLE public.posts (
        id int PRIMARY KEY, author uuid, score float8, at timestamptz, tags text[], body bytea);
    ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON public.posts USING (
        author = current_setting('ayb.user_id')::uuid AND score <= 0.3 OR tags @> '{public}');
    GRANT SELECT ON public.posts TO ayb_authenticated;
"""


@pytest.mark.parametrize("whose", ["database", "roles"])
async def test_every_default_at_its_worst(
    start_stack: StartStack, database: Database, postgres_server: PostgresServer, whose: str
):
    """A stack that starts on such a database streams what a SELECT shows, and nothing else."""
    owners = (
        [f"DATABASE {database.name}"]
        if whose == "database"
        else [f"ROLE {r} IN DATABASE {database.name}" for r in ("ayb_relay", "ayb_gateway")]
    )
    async with open_connection(postgres_server.dsn()) as admin:
        for owner in owners:
            for name, value in WORST.items():
                await admin.execute(f"ALTER {owner} SET {name} = '{value}'")
    stack = await start_stack()
    async with database.connect() as writer:
        await writer.execute("RESET ALL; SET default_transaction_read_only = off")
        await writer.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        await writer.execute("SET idle_session_timeout = 0; SET standard_conforming_strings = on")
        await writer.execute(TABLE)
        async with asyncio.timeout(20):
            while not await writer.fetchval(  # noqa: ASYNC110 (another process does it)
                "SELECT count(*) > 1 FROM pg_trigger WHERE tgrelid = 'public.posts'::regclass"
            ):
                await asyncio.sleep(0.05)
        user, other = str(uuid.uuid4()), str(uuid.uuid4())
        async with (
            stack.stream("posts", token=stack.token(user)) as client,
            stack.stream("posts", token=stack.token(other)) as stranger,
        ):
            await client.connected()
            await stranger.connected()
            await asyncio.sleep(1)  # longer than the session timeouts above
            await writer.execute(f"""
                INSERT INTO public.posts VALUES
                    (1, '{user}', 0.3, '2026-02-07 22:00:00.123456Z', ARRAY['a', NULL], '\\x00ff'),
                    (2, '{user}', 0.30000000000000004, NULL, NULL, NULL),
                    (3, '{other}', 0.3, NULL, NULL, NULL),
                    (4, NULL, 1, NULL, '{{public}}', NULL)
            """)
            rows = [(await client.next_message()).json()["record"] for _ in range(2)]
            assert [row["id"] for row in rows] == [1, 4]
            assert rows[0]["score"] == 0.3
            assert rows[0]["at"] == "2026-02-07T22:00:00.123456Z"
            assert rows[0]["tags"] == ["a", None]
            assert [(await stranger.next_message()).json()["record"]["id"] for _ in range(2)] == [
                3,
                4,
            ]
            await writer.execute("DELETE FROM public.posts")
            assert len(await client.take(4)) == 4
    for name in ("relay", "gateway"):
        assert "Traceback" not in stack.log(name)
        assert "unavailable" not in stack.log(name)
