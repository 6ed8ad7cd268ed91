"""What the events of a table cost gateways that have no client for it."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tests.support.statements import StatementLog

if TYPE_CHECKING:
    from tests.support.stack_fixtures import StartStack

TABLES = """
CREATE TABLE notes (id int PRIMARY KEY);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON notes TO ayb_authenticated;
CREATE POLICY anyone ON notes USING (id >= 0);
CREATE TABLE tasks (LIKE notes INCLUDING ALL);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON tasks TO ayb_authenticated;
CREATE POLICY anyone ON tasks USING (id >= 0);
"""
EVENTS = 150
A_SECOND = 5
"""Statements with which a gateway looks after itself, whatever happens: how far the outbox is, and
how stale the read database.
"""


async def test_a_gateway_without_clients_for_a_table_asks_nothing(start_stack: StartStack) -> None:
    """Events cost Postgres what gateways with clients for their table ask. One that has none, or
    none for this table, asks no question and reads nothing for them; and its next client, of
    whatever table, gets what comes after it has connected.
    """
    async with AsyncExitStack() as exits:
        stack = await start_stack()
        await stack.create(TABLES, "notes", "tasks")
        logs = {}
        for name in ("idle", "elsewhere"):
            log = logs[name] = await exits.enter_async_context(
                StatementLog(stack.database.gateway_dsn)
            )
            await stack.add_gateway(
                name, AYB_DATABASE_URL=log.dsn, AYB_READ_DATABASE_URL=log.dsn,
                AYB_REALTIME_VERIFY="0",
            )  # fmt: skip
        token = stack.token()
        client = await exits.enter_async_context(stack.stream("notes", token=token))
        other = await exits.enter_async_context(
            stack.stream("tasks", token=token, gateway="elsewhere")
        )
        await client.connected()
        await other.connected()
        for number in range(10):
            await stack.sql(f"INSERT INTO notes VALUES ({number})")
            await client.next_message()
        for log in logs.values():
            log.executed.clear()
        began = time.monotonic()
        for number in range(10, 10 + EVENTS):
            await stack.sql(f"INSERT INTO notes VALUES ({number})")
            await client.next_message()
        seconds = time.monotonic() - began
        for name, log in logs.items():
            executed = Counter(log.executed)
            asked = [sql for sql in executed if "judge" in sql or "changes" in sql]
            assert asked == [], name
            assert executed.total() <= 5 + A_SECOND * seconds, (name, seconds, executed)
        # Both are where the events are, and go on from there.
        for gateway, table in (("idle", "notes"), ("elsewhere", "notes"), ("idle", "tasks")):
            async with stack.stream(table, token=token, gateway=gateway) as late:
                await late.connected()
                await stack.sql(f"INSERT INTO {table} SELECT max(id) + 1000 FROM notes")
                [event] = await late.take(1)
                assert '"action":"create"' in event.data
                await late.silence(0.1)
