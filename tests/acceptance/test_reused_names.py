"""A column takes over the name of another one that not everyone may read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.stack import Stack

TABLE = """
    CREATE TABLE notes (id int PRIMARY KEY, body text, note text);
    GRANT SELECT (id, body) ON notes TO ayb_authenticated;
"""
WAYS = {
    "drop": "ALTER TABLE notes DROP note; ALTER TABLE notes ADD note text;",
    "rename": "ALTER TABLE notes RENAME note TO hidden; ALTER TABLE notes ADD note text;",
    "swap": """
        ALTER TABLE notes ADD shown text;
        ALTER TABLE notes RENAME note TO hidden; ALTER TABLE notes RENAME shown TO note;
    """,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ring_bytes", [0, 10_000_000])
@pytest.mark.parametrize("is_noted", [True, False])
async def test_what_was_hidden_under_the_name_stays_hidden(
    start_stack: Any, way: str, ring_bytes: int, is_noted: bool
) -> None:
    """A client that resumes from before gets `resync`, not what the name meant then, whether or not
    the relay has recorded the change. What comes after is delivered.
    """
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_RING_BYTES": str(ring_bytes)})
    await stack.create(TABLE, "notes")
    token = stack.token()
    async with (
        stack.stream("notes", token=token) as staying,
        stack.stream("notes", token=token) as client,
    ):
        await staying.connected()
        await client.connected()
        await stack.sql("INSERT INTO notes VALUES (1, 'shown', 'secret')")
        await stack.sql("INSERT INTO notes VALUES (2, 'shown', 'secret')")
        first = await client.next_message()
        assert first.json()["record"] == {"id": 1, "body": "shown"}
        assert len(await staying.take(2)) == 2
    if not is_noted:
        await stack.stop("relay")
    await stack.sql(WAYS[way] + "GRANT SELECT (note) ON notes TO ayb_authenticated;")
    if is_noted:
        await noted(stack)
    async with stack.stream("notes", token=token, last_event_id=first.id) as client:
        while (event := await client.next()).type != "resync":
            assert event.type == "connected"
        assert event.json() == {"reason": "overflow", "tables": ["notes"]}
        if not is_noted:
            await stack.start("relay")
            await noted(stack)
        await stack.sql("INSERT INTO notes (id, body, note) VALUES (3, 'shown', 'public')")
        message = await client.next_message()
        assert message.json()["record"] == {"id": 3, "body": "shown", "note": "public"}
        assert b"secret" not in client.raw


async def test_other_changes_of_columns_cost_nothing(start_stack: Any) -> None:
    """If columns are added, dropped, renamed or granted, earlier changes are delivered as they
    were.
    """
    stack: Stack = await start_stack()
    await stack.create(TABLE, "notes")
    token = stack.token()
    async with stack.stream("notes", token=token) as client:
        await client.connected()
        positions = []
        for id_, sql in enumerate(
            (
                "ALTER TABLE notes ADD more int",
                "GRANT SELECT (more) ON notes TO ayb_authenticated",
                "ALTER TABLE notes RENAME more TO most",
                "ALTER TABLE notes DROP most",
                "ALTER TABLE notes ALTER body TYPE varchar(80)",
            )
        ):
            await stack.sql("INSERT INTO notes (id, body) VALUES ($1, 'shown')", id_)
            positions.append((await client.next_message()).id)
            await stack.sql(sql)
    async with stack.stream("notes", token=token, last_event_id=positions[0]) as client:
        told = [message.json()["record"]["id"] for message in await client.take(4)]
        assert told == [1, 2, 3, 4]
        assert "resync" not in {event.type for event in client.events}


async def noted(stack: Stack) -> None:
    """Wait until the relay has recorded which column has the name."""
    async with stack.database.connect() as connection:
        while not await connection.fetchval("""
            SELECT EXISTS (
                SELECT FROM ayb_realtime.column_names k
                JOIN pg_attribute a ON a.attrelid = k.relid AND a.attname = k.name
                WHERE k.relid = 'notes'::regclass AND k.name = 'note'
                AND k.attnum = a.attnum AND k.reused_seq IS NOT NULL
            )"""):
            pass
