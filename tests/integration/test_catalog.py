"""What the catalogs say about captured tables, with the gateway's own login."""

from __future__ import annotations

from itertools import permutations
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


async def test_orders_and_selections_push_nothing_out(database: Database) -> None:
    """Lists of the same tables, in ever new orders, leave one answer for each name."""
    await database.execute(CAPTURED)
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        answers = RecentAnswers()
        catalog = Catalog(pool, None, answers)
        for count in (1, 2, 3):
            for texts in permutations(["kept", "public.dropped", '"Odd.Name"'], count):
                tables = await catalog.resolve(parse_tables(",".join(texts)))
                wanted = [text.strip('"').removeprefix("public.") for text in texts]
                assert [table.name for table in tables] == [f"public.{name}" for name in wanted]
        assert len(await catalog.resolve(parse_tables('kept,public.kept,"kept"'))) == 1
        with pytest.raises(UnknownTableError, match="nothing"):
            await catalog.resolve(parse_tables("kept,nothing,dropped,never"))
        assert len(answers) == 4


async def test_without_an_outbox_no_name_is_unknown(database: Database) -> None:
    """If the outbox is missing, that is the fault, and not the name that a client asks for."""
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        catalog = Catalog(pool, None, RecentAnswers())
        with pytest.raises(UnknownTableError):
            await catalog.resolve(parse_tables("nothing"))
        await database.execute("DROP SCHEMA ayb_realtime CASCADE")
        with pytest.raises(SchemaError):
            await catalog.resolve(parse_tables("nothing"))
