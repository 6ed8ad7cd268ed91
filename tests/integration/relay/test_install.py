"""Installing the schema over what another checkout or an operator left in it."""

from __future__ import annotations

import pytest

from relay.schema.migrate import migrate, missing_scripts
from shared.errors import SchemaError
from tests.support.databases import Database


async def test_a_function_that_cannot_be_replaced_is_named(database: Database) -> None:
    """It is no unavailable database; Postgres' own hint says what to do, and doing it helps."""
    await database.execute("""
        DROP FUNCTION ayb_realtime.type_calls(name);
        CREATE FUNCTION ayb_realtime.type_calls(type_name name) RETURNS integer
            LANGUAGE sql AS 'SELECT 1';
        UPDATE ayb_realtime.installed_functions SET checksum = '';
    """)
    async with database.connect() as connection:
        with pytest.raises(SchemaError) as raised:
            await migrate(connection)
        assert str(raised.value) == (
            "functions cannot be applied to the schema ayb_realtime (cannot change return type of "
            "existing function): Use DROP FUNCTION ayb_realtime.type_calls(name) first."
        )
        await database.execute("DROP FUNCTION ayb_realtime.type_calls(name)")
        assert await migrate(connection) == ["functions"]
        assert await missing_scripts(connection) == []
