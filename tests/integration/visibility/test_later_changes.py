"""`ayb_realtime.later_changes`: what is not found within its bounds counts as not there."""

from __future__ import annotations

import pytest

LATER = """SELECT array_agg(n) FROM ayb_realtime.later_changes(
    'docs'::regclass, '{id}', '{1,2}', '{7,8}', '{1,2}') AS n"""


@pytest.fixture
async def admin(database):
    """A connection to an outbox with one batch, of changes 1 and 2 of the rows 7 and 8."""
    async with database.connect() as connection:
        await connection.execute(
            """
            CREATE TABLE docs (id int PRIMARY KEY);
            INSERT INTO ayb_realtime.batches
                (id, epoch, prev_snapshot, snapshot, complete, xids, first_seq, last_seq, changes,
                 bytes, relids, lsn, generation)
            VALUES (1, 1, pg_current_snapshot(), pg_current_snapshot(), true, '{}', 1, 2, 2,
                0, '{}', '0/0', 0);
            """
        )
        await change(connection, "1, 2", new='{"id": 7}')
        yield connection


async def change(admin, numbers: str, *, new: str, table: str = "docs") -> None:
    """Record changes with these numbers, as capture does."""
    await admin.execute(
        f"""INSERT INTO ayb_realtime.changes (seq, relid, op, new)
        SELECT n, $1::text::regclass, 'U', $2::text::json FROM unnest(ARRAY[{numbers}]) AS n""",
        table, new,
    )  # fmt: skip


async def test_a_later_change_of_the_row_is_found(admin):
    """By its key, in the batch or after it; not before the image, and of no other row."""
    assert await admin.fetchval(LATER) == [1]
    await change(admin, "3", new='{"id": 9}')
    assert await admin.fetchval(LATER) == [1]
    await change(admin, "4", new='{"id": 8}')
    assert sorted(await admin.fetchval(LATER)) == [1, 2]


async def test_the_search_ends_when_its_time_is_up(admin):
    """Changes that take long to look into are searched for half a second, and those found count:
    another client's question waits no longer for them.
    """
    heavy = "[" + ",".join("[1]" for _ in range(300_000)) + "]"
    numbers = ",".join(str(n) for n in range(3, 103))
    await change(admin, numbers, new=f'{{"id": 9, "list": {heavy}}}')
    await change(admin, "103", new='{"id": 8}')
    assert await admin.fetchval(LATER) == [1]


async def test_changes_of_other_tables_take_little_of_the_time(admin):
    """They are passed over, whatever is in them."""
    await admin.execute("CREATE TABLE others (id int)")
    heavy = "[" + ",".join("[1]" for _ in range(300_000)) + "]"
    numbers = ",".join(str(n) for n in range(3, 103))
    await change(admin, numbers, new=f'{{"id": 8, "list": {heavy}}}', table="others")
    await change(admin, "103", new='{"id": 8}')
    assert sorted(await admin.fetchval(LATER)) == [1, 2]
