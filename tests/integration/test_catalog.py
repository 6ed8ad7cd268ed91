"""What the catalogs say about captured tables, with the gateway's own login."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.tables.catalog import Catalog, UnknownTableError
from gateway.tables.names import parse_tables
from gateway.tables.recent_answers import RecentAnswers
from shared.errors import SchemaError
from shared.pool import open_pool

if TYPE_CHECKING:
    from tests.support.databases import Database

CAPTURED = """
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TABLE kept (id int); CREATE TABLE dropped (id int); CREATE TABLE "Odd.Name" (id int);
    DO $$ DECLARE t regclass; BEGIN
        FOREACH t IN ARRAY ARRAY['kept', 'dropped', '"Odd.Name"']::regclass[] LOOP
            EXECUTE format('CREATE TRIGGER %I AFTER INSERT ON %s FOR EACH ROW
                EXECUTE FUNCTION nothing()', '!ayb_realtime_row_' || t::oid, t);
        END LOOP;
    END $$;
"""


async def test_dropped_tables_are_gone(database: Database) -> None:
    """A table that was dropped, or is captured no longer, is gone; the others are not."""
    await database.execute(CAPTURED)
    names = ["public.kept", "public.dropped", "public.Odd.Name"]
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        catalog = Catalog(pool, None, RecentAnswers())
        assert await catalog.gone(names) == set()
        await database.execute("DROP TABLE dropped")
        assert await catalog.gone([*names, "(other)"]) == {"public.dropped", "(other)"}


async def test_without_an_outbox_no_name_is_unknown(database: Database) -> None:
    """If the outbox is missing, that is the fault, and not the name that a client asks for."""
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        catalog = Catalog(pool, None, RecentAnswers())
        with pytest.raises(UnknownTableError):
            await catalog.resolve(parse_tables("nothing"))
        await database.execute("DROP SCHEMA ayb_realtime CASCADE")
        with pytest.raises(SchemaError):
            await catalog.resolve(parse_tables("nothing"))
