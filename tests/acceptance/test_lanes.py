"""A table whose question is slow delays its own clients only."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from shared.position import parse_position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.sse_client import SseClient
    from tests.support.stack import Stack

LOCK = 771_204
PATIENT = {"AYB_REALTIME_STATEMENT_SECONDS": "60", "AYB_REALTIME_VERIFY": "0"}
"""The gateway does not end a question that waits for the test's lock."""

TABLES = f"""
    CREATE TABLE fast (id int PRIMARY KEY);
    CREATE TABLE slow (id int PRIMARY KEY, owner text);
    GRANT SELECT ON fast, slow TO ayb_authenticated;
    CREATE FUNCTION waits(owner text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
        IF current_setting('ayb.user_id') LIKE owner THEN
            PERFORM pg_advisory_xact_lock_shared({LOCK});
        END IF;
        RETURN true;
    END $$;
    ALTER TABLE slow ENABLE ROW LEVEL SECURITY;
    CREATE POLICY waits ON slow USING (waits(owner));
"""


@contextlib.asynccontextmanager
async def locked(stack: Stack) -> AsyncIterator[None]:
    """Hold the lock that the policy of the slow table waits for."""
    async with stack.database.connect() as connection, asyncio.timeout(50):
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        yield


async def judging(stack: Stack) -> None:
    """Wait until a question waits for the lock."""
    while not await stack.rows(  # noqa: ASYNC110 (another process asks it)
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = $1::int::oid "
        "AND NOT granted", LOCK,
    ):  # fmt: skip
        await asyncio.sleep(0.01)


async def received(client: SseClient, count: int) -> list[tuple[str, int]]:
    """Take messages, and check that positions only grow."""
    messages = await client.take(count)
    positions = [parse_position(message.id) for message in client.messages]
    assert positions == sorted(set(positions))
    return [(m.json()["table"], m.json()["record"]["id"]) for m in messages]


async def test_events_overtake_a_table_that_is_being_judged(start_stack: Any) -> None:
    """While the policy of one table waits, another table's clients get their events, also those
    that come now or come back; a client of both gets its events in commit order, each once.
    """
    stack: Stack = await start_stack(gateway=PATIENT)
    await stack.create(TABLES, "fast", "slow")
    async with (
        stack.stream("fast", token=stack.token("a")) as fast,
        stack.stream("slow", token=stack.token("b")) as slow,
        stack.stream("fast,slow", token=stack.token("c")) as both,
        contextlib.AsyncExitStack() as streams,
    ):
        start = (await fast.connected()).last_event_id
        for client in (slow, both):
            await client.connected()
        async with locked(stack):
            await stack.sql("INSERT INTO slow VALUES (1, '%')")
            await judging(stack)
            await stack.sql("INSERT INTO fast VALUES (2)")
            assert await received(fast, 1) == [("fast", 2)]
            late = await streams.enter_async_context(
                stack.stream("fast,slow", token=stack.token("d"))
            )
            await late.connected()
            async with (
                stack.stream("fast", token=stack.token("e")) as newcomer,
                stack.stream("fast", token=stack.token("f"), last_event_id=start) as returned,
            ):
                await newcomer.connected()
                assert await received(returned, 1) == [("fast", 2)]
                await stack.sql("INSERT INTO slow VALUES (3, '%'); INSERT INTO fast VALUES (4)")
                for client in (fast, newcomer, returned):
                    assert await received(client, 1) == [("fast", 4)]
            assert slow.messages == both.messages == late.messages == []
            assert parse_position(both.last_event_id) <= parse_position(start)
        assert await received(slow, 2) == [("slow", 1), ("slow", 3)]
        assert await received(both, 4) == [("slow", 1), ("fast", 2), ("slow", 3), ("fast", 4)]
        assert await received(late, 2) == [("slow", 3), ("fast", 4)]
        await stack.sql("INSERT INTO slow VALUES (5, '%'); INSERT INTO fast VALUES (6)")
        assert await received(late, 2) == await received(both, 2) == [("slow", 5), ("fast", 6)]
        assert await received(slow, 1) == [("slow", 5)]
        assert await received(fast, 1) == [("fast", 6)]


async def test_many_rows_of_a_slow_table_hold_no_other(start_stack: Any) -> None:
    """10,000 rows into a table with an opaque policy: another table's event arrives before the
    last of them is judged, and they arrive complete and in order.
    """
    stack: Stack = await start_stack(gateway=PATIENT)
    await stack.create(TABLES, "fast", "slow")
    async with contextlib.AsyncExitStack() as streams:
        fast = await streams.enter_async_context(stack.stream("fast", token=stack.token("a")))
        slow = [
            await streams.enter_async_context(stack.stream("slow", token=stack.token(f"b{n}")))
            for n in range(10)
        ]
        for client in (fast, *slow):
            await client.connected()
        async with locked(stack):
            # The lock stands for what takes long: the last row is judged once it is free.
            await stack.sql(
                "INSERT INTO slow SELECT g, CASE g WHEN 10000 THEN '%' ELSE '' END "
                "FROM generate_series(1, 10000) g"
            )
            await judging(stack)
            await stack.sql("INSERT INTO fast VALUES (1)")
            assert await received(fast, 1) == [("fast", 1)]
        for client in slow:
            assert await received(client, 10_000) == [("slow", n) for n in range(1, 10_001)]


async def test_one_user_delays_no_other_table(start_stack: Any) -> None:
    """Six tokens of one user, for whom the policy takes long: another table's event arrives."""
    stack: Stack = await start_stack(gateway=PATIENT)
    await stack.create(TABLES, "fast", "slow")
    async with contextlib.AsyncExitStack() as streams:
        evil = [
            await streams.enter_async_context(
                stack.stream("slow", token=stack.token("evil", jti=str(n)))
            )
            for n in range(6)
        ]
        fast = await streams.enter_async_context(stack.stream("fast", token=stack.token("a")))
        for client in (*evil, fast):
            await client.connected()
        async with locked(stack):
            await stack.sql("INSERT INTO slow VALUES (1, 'evil')")
            await judging(stack)
            await stack.sql("INSERT INTO fast VALUES (2)")
            assert await received(fast, 1) == [("fast", 2)]
        for client in evil:
            assert await received(client, 1) == [("slow", 1)]
