"""A value's text comes to mean another value: labels are renamed, columns get another type."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.sse_client import Event
    from tests.support.stack import Stack

READ = """
    GRANT SELECT ON docs TO ayb_authenticated;
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON docs USING ({policy} AND current_setting('ayb.user_id') <> '');
"""
STATE = """
    CREATE TYPE state AS ENUM ('draft', 'public');
    CREATE TABLE docs (id int PRIMARY KEY, {column}, body text);
"""
SWAPPED = """
    ALTER TYPE state RENAME VALUE 'public' TO 'between';
    ALTER TYPE state RENAME VALUE 'draft' TO 'public';
    ALTER TYPE state RENAME VALUE 'between' TO 'draft';
"""
HELPER = """
    CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql STABLE
        AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN true; END $$;
"""
OTHERWISE = {
    # objects, policy, a value before that hides the row, what is done, a value after that shows it
    "labels that swap": (
        STATE.format(column="state state"), "state = 'public'", "'draft'", SWAPPED, "'draft'",
    ),
    "a label that another value takes over": (
        STATE.format(column="state state"),
        "state <> 'draft'",
        "'draft'",
        "ALTER TYPE state RENAME VALUE 'draft' TO 'old'; ALTER TYPE state ADD VALUE 'draft'",
        "'draft'",
    ),
    "labels in an array": (
        STATE.format(column="state state[]"),
        "'public' = ANY (state)",
        "'{draft}'",
        SWAPPED,
        "'{draft}'",
    ),
    "labels under a domain": (
        STATE.replace("CREATE TABLE", "CREATE DOMAIN mood AS state; CREATE TABLE")
        .format(column="state mood"),
        "state::state = 'public'",
        "'draft'",
        SWAPPED,
        "'draft'",
    ),
    "labels that bound a range": (
        STATE.replace("CREATE TABLE", "CREATE TYPE span AS RANGE (subtype = state); CREATE TABLE")
        .format(column="state span"),
        "state = span('public', 'public', '[]')",
        "'[draft,draft]'",
        SWAPPED,
        "'[draft,draft]'",
    ),
    "a type of the same name": (
        STATE.format(column="state state"),
        "state = 'public'",
        "'draft'",
        """
        DROP POLICY p ON docs; ALTER TYPE state RENAME TO former;
        CREATE TYPE state AS ENUM ('public', 'draft');
        ALTER TABLE docs ALTER state TYPE state
            USING CASE state WHEN 'draft' THEN 'public'::state ELSE 'draft' END;
        CREATE POLICY p ON docs USING (state = 'draft' AND current_setting('ayb.user_id') <> '');
        """,
        "'draft'",
    ),
    "a column of another type": (
        "CREATE TABLE docs (id int PRIMARY KEY, state int, body text)",
        "state = 1",
        "0",
        """
        DROP POLICY p ON docs; ALTER TABLE docs ALTER state TYPE boolean USING state = 1;
        CREATE POLICY p ON docs USING (NOT state AND current_setting('ayb.user_id') <> '');
        """,
        "false",
    ),
}  # fmt: skip


UNNOTED = {"labels that swap", "a label that another value takes over", "a column of another type"}
"""The cases that are tried without a relay, too."""


@pytest.mark.parametrize("is_noted", [True, False])
async def test_a_text_that_means_another_value_now(start_stack: Any, is_noted: bool) -> None:
    """A client that resumes from before gets `resync`, never a row by what its text means now,
    whether or not the relay has recorded the change. What comes after is delivered.
    """
    stack: Stack = await start_stack()
    for case, (objects, policy, before, change, after) in OTHERWISE.items():
        if not is_noted and case not in UNNOTED:
            continue
        await stack.create(objects + ";" + READ.format(policy=policy), "docs")
        token = stack.token()
        position = await position_after(stack, f"(1, {shown(before, case)}, 'shown')", token)
        await noted(stack)
        await stack.sql(f"INSERT INTO docs VALUES (2, {before}, 'secret')")
        if not is_noted:
            await recorded(stack)
            await stack.stop("relay")
        await stack.sql(change)
        if is_noted:
            await noted(stack)
        async with stack.stream("docs", token=token, last_event_id=position) as client:
            if "range" not in case:  # there a SELECT decides, and shows nothing
                event = await after_connecting(client)
                assert (event.type, event.json()["tables"]) == ("resync", ["docs"]), case
            if not is_noted:
                await stack.start("relay")
                await noted(stack)
            await stack.sql(f"INSERT INTO docs VALUES (3, {after}, 'public')")
            while (event := await client.next()).type != "message":
                assert event.type in ("connected", "resync")  # it may not have been recorded yet
            assert event.json()["record"]["id"] == 3, case
            assert b"secret" not in client.raw, case
        await stack.sql("DROP TABLE docs; DROP TYPE IF EXISTS state, former CASCADE")
    assert "visibility differs" not in stack.log("gateway")


def shown(value: str, case: str) -> str:
    """Return the value that shows a row before the change."""
    return {"0": "1"}.get(value) or (
        "'public'" if "takes over" in case else value.replace("draft", "public")
    )


REWRITTEN = {
    # what has no effect on who sees a row, but on how it is written
    "a column of another type": "ALTER TABLE docs ALTER state TYPE text USING 'now ' || state",
    "a label with another name": "ALTER TYPE mood RENAME VALUE 'calm' TO 'quiet'",
    "an attribute with another name": "ALTER TYPE pair RENAME ATTRIBUTE x TO z",
    "a table with another name": "ALTER TABLE named RENAME TO renamed",
    "a key of another type": "ALTER TABLE docs ALTER id TYPE text USING 'n' || id",
    "a write that is not captured": """
        SET session_replication_role = replica; ALTER TABLE docs DISABLE TRIGGER USER;
        UPDATE docs SET body = 'other'; ALTER TABLE docs ENABLE TRIGGER USER;
    """,
}


async def test_a_row_that_is_written_otherwise_without_a_later_change(start_stack: Any) -> None:
    """Where only a SELECT decides, a row that looks otherwise is passed over only if a later change
    of it is on its way. Otherwise its client gets `resync`.
    """
    stack: Stack = await start_stack()
    for case, change in REWRITTEN.items():
        await stack.create(
            """
            CREATE TYPE mood AS ENUM ('calm'); CREATE TYPE pair AS (x int, y int);
            CREATE TABLE named (id int);
            CREATE TABLE docs (id int PRIMARY KEY, state int, mood mood, pair pair,
                place regclass, body text);
            """
            + HELPER
            + READ.format(policy="fine(7 + 0 * length(body))"),
            "docs",
        )
        row = "'calm', (1, 2), 'named'"
        token = stack.token()
        position = await position_after(stack, f"(1, 0, {row}, 'first')", token)
        await noted(stack)
        await stack.sql(f"INSERT INTO docs VALUES (2, 0, {row}, 'kept'), (3, 0, {row}, 'changed')")
        await stack.sql("UPDATE docs SET body = 'later' WHERE id = 3")
        async with stack.stream("docs", token=token, last_event_id=position) as client:
            records = [m.json()["record"] for m in await client.take(2)]
            assert [(r["id"], r["body"]) for r in records] == [(2, "kept"), (3, "later")], case
            assert "resync" not in {event.type for event in client.events}, case
        await stack.sql(change)
        async with stack.stream("docs", token=token, last_event_id=position) as client:
            event = await after_connecting(client)
            assert (event.type, event.json()["tables"]) == ("resync", ["docs"]), case
        await stack.sql(
            "DROP TABLE docs; DROP TABLE IF EXISTS named, renamed;"
            "DROP TYPE mood, pair; DROP FUNCTION fine"
        )


async def position_after(stack: Stack, row: str, token: str) -> str:
    """Insert a row that everyone sees, and return its position."""
    async with stack.stream("docs", token=token) as client:
        await client.connected()
        await stack.sql(f"INSERT INTO docs VALUES {row}")
        event = await client.next_message()
    assert event.id is not None
    return event.id


async def after_connecting(client: Any) -> Event:
    event: Event
    while (event := await client.next()).type == "connected":
        pass
    return event


async def relayed(stack: Stack) -> None:
    """Wait until the relay has recorded everything that was written."""
    async with asyncio.timeout(10):
        while await stack.rows(  # noqa: ASYNC110 (another process does it)
            """
            SELECT FROM ayb_realtime.changes
            WHERE seq > (SELECT max(last_seq) FROM ayb_realtime.batches)
            """
        ):
            await asyncio.sleep(0.02)


async def recorded(stack: Stack) -> None:
    """Wait until the relay has put every change into a batch; what it has not is not judged."""
    open_changes = """
        SELECT FROM ayb_realtime.changes
        WHERE seq > (SELECT coalesce(max(last_seq), 0) FROM ayb_realtime.batches)
    """
    async with asyncio.timeout(20):
        while await stack.rows(open_changes):  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.02)


async def noted(stack: Stack) -> None:
    """Wait until the relay has recorded what names mean now, and nothing is in doubt."""
    async with asyncio.timeout(10):
        while await stack.rows(  # noqa: ASYNC110 (another process does it)
            """
            SELECT FROM pg_attribute a
            LEFT JOIN ayb_realtime.column_names k ON k.relid = a.attrelid AND k.name = a.attname
            WHERE a.attrelid = 'docs'::regclass AND a.attnum > 0 AND NOT a.attisdropped
            AND (k.attnum, k.type, k.typmod) IS DISTINCT FROM (a.attnum, a.atttypid, a.atttypmod)
            UNION ALL
            SELECT FROM pg_enum e
            LEFT JOIN ayb_realtime.enum_labels k ON k.type = e.enumtypid AND k.label = e.enumlabel
            WHERE k.value IS DISTINCT FROM e.oid OR k.waits_for IS NOT NULL
            """
        ):
            await asyncio.sleep(0.05)
