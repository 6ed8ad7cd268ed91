"""One table's trouble is that table's alone, and a server's limits stop nothing."""

from __future__ import annotations

import json

import pytest

from tests.integration.relay.conftest import eventually

REFUSES = """
    CREATE TABLE bad (id int PRIMARY KEY);
    CREATE TABLE good (id int PRIMARY KEY);
    CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '% on public.bad'
        ) THEN
            RAISE EXCEPTION 'no triggers here' USING ERRCODE = '{state}';
        END IF;
    END $$;
    CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize("state", ["P0001", "0A000", "57014", "53100"])
async def test_table_whose_ddl_is_refused(database, relays, ear, state):
    """An event trigger that refuses DDL on one table keeps no other from being captured; the table
    follows as soon as it is allowed.
    """
    await database.execute(REFUSES.replace("{state}", state))
    async with relays.running() as metrics:
        await database.execute("INSERT INTO bad VALUES (1); INSERT INTO good VALUES (2)")
        (heard,) = await ear.changes(1)
        assert heard.table == "public.good"
        assert metrics.uncaptured_tables._value.get() == 1
        await database.execute("DROP EVENT TRIGGER refuse")
        await eventually(lambda: metrics.uncaptured_tables._value.get() == 0)
        await database.execute("INSERT INTO bad VALUES (3)")
        await ear.until(lambda: ear.heard[-1].new == '{"id":3}')


@pytest.mark.parametrize("transactions", [1, 200])
async def test_no_temporary_files(database, relays, ear, transactions):
    """A large difference, of one transaction or many, is read without temporary files."""
    rows = 100_000
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    async with relays.running():
        pass
    async with database.connect() as admin:
        await admin.execute("ALTER ROLE ayb_relay SET temp_file_limit = '64kB'")
        try:
            each = rows // transactions
            for number in range(transactions):
                await admin.execute(
                    "INSERT INTO t SELECT n, md5(n::text) FROM generate_series($1::int, $2::int) n",
                    number * each,
                    (number + 1) * each - 1,
                )
            async with relays.running():
                heard = await ear.changes(rows)
        finally:
            await admin.execute("ALTER ROLE ayb_relay RESET temp_file_limit")
    assert [json.loads(h.new or "")["id"] for h in heard] == list(range(rows))
