"""A database whose encoding has no place for every text."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import asyncpg
import pytest

from gateway.visibility.engine import Image, Visibility
from tests.integration.visibility.conftest import (
    ROLE,
    Engine,
    Recorder,
    gateway_pool,
    settings,
)
from tests.support.databases import Database, make_template, open_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from devstack.servers import PostgresServer

UMLAUT, EMOJI = "J\u00e4ger", "\U0001f600"
MEMBERS = {
    "umlaut": settings(user=UMLAUT, claims=json.dumps({"name": UMLAUT}, ensure_ascii=False)),
    "escaped": settings(user="e", claims=json.dumps({"name": UMLAUT})),
    "emoji": settings(user=EMOJI, claims=json.dumps({"name": EMOJI}, ensure_ascii=False)),
    "escaped emoji": settings(user="x", claims=json.dumps({"name": EMOJI})),
    "plain": settings(user="p", claims='{"name":"p"}'),
}
TABLE = """
    CREATE TABLE "t\u00e4ble" (id int PRIMARY KEY, "\u00e4" text);
    INSERT INTO "t\u00e4ble" VALUES (1, 'J\u00e4ger'), (2, 'p');
    GRANT SELECT ON "t\u00e4ble" TO ayb_authenticated;
    ALTER TABLE "t\u00e4ble" ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION me() RETURNS text LANGUAGE plpgsql STABLE
        AS $$ BEGIN RETURN current_setting('request.jwt.claims')::json ->> 'name'; END $$;
    CREATE FUNCTION same(a text, b text) RETURNS boolean LANGUAGE plpgsql STABLE
        AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN a = b; END $$;
"""
NAME = """(current_setting('request.jwt.claims')::json ->> 'name')"""
POLICIES = {
    "joined": f'"\u00e4" = {NAME}',
    "a function of ours": '"\u00e4" = me()',
    "looped": f"""CASE WHEN "\u00e4" IS NULL THEN false ELSE "\u00e4" = {NAME} END""",
    "opaque": f'same("\u00e4", {NAME})',
    "a setting of that name": f"""coalesce(current_setting('app.\u00e4', true), '') = ''
        AND "\u00e4" = {NAME}""",
}


@pytest.fixture
async def latin(postgres_server: PostgresServer, database_template: str) -> AsyncIterator[Engine]:
    """An engine on a database in LATIN1."""
    more = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    async with engine_on(postgres_server, "test_visibility_latin1", more) as engine:
        yield engine


@contextlib.asynccontextmanager
async def engine_on(postgres_server: PostgresServer, name: str, more: str) -> AsyncIterator[Engine]:
    """An engine on a database that is made with more options."""
    await make_template(postgres_server, name, more)
    database = Database.on(postgres_server, name)
    async with database.connect() as admin, gateway_pool(database) as pool:
        recorder = Recorder()
        visibility = Visibility(pool, observer=recorder, verify_rate=1.0)
        yield Engine(database, admin, pool, visibility, recorder)
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("is_joining", [True, False])
async def test_a_claim_that_the_encoding_cannot_hold(latin: Engine, is_joining: bool) -> None:
    """It is the trouble of its own cohort alone, in every form; other texts are what they are."""
    await latin.admin.execute(TABLE)
    images = [
        Image(f'{{"id":1,"\u00e4":"{UMLAUT}"}}'.encode()),
        Image('{"id":2,"\u00e4":"p"}'.encode()),
    ]
    for form, policy in POLICIES.items():
        await latin.admin.execute(
            f'DROP POLICY IF EXISTS p ON "t\u00e4ble"; CREATE POLICY p ON "t\u00e4ble" '
            f"USING ({policy})"
        )
        latin.visibility = Visibility(
            latin.pool, observer=latin.recorder, verify_rate=1.0, is_joining=is_joining
        )
        for _ in range(2):  # some values are kept
            seen = await latin.ask('"t\u00e4ble"', MEMBERS, images)
            assert seen.by("umlaut") == {0}, form
            assert seen.by("escaped") == {0}, form
            assert seen.by("plain") == {1}, form
            assert seen.by("emoji") == seen.by("escaped emoji") == set(), form
            assert seen.broken() == {"emoji", "escaped emoji"}, form
            assert not seen.answer.undecidable, form
    assert latin.recorder.differences == 0


async def test_a_name_is_folded_as_postgres_folds_it(
    postgres_server: PostgresServer, database_template: str
) -> None:
    """In Turkish, the small letter of I has no dot; in the name of a table, it has one."""
    more = "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr'"
    async with open_connection(postgres_server.dsn()) as admin:
        try:
            await admin.execute(f"CREATE DATABASE test_visibility_icu {more}")
        except (asyncpg.FeatureNotSupportedError, asyncpg.PostgresSyntaxError):
            pytest.skip("this Postgres has no databases with a locale of ICU")
        await admin.execute("DROP DATABASE test_visibility_icu")
    async with engine_on(postgres_server, "test_visibility_turkish", more) as engine:
        assert await engine.admin.fetchval("SELECT lower('I')") == "\u0131"
        await engine.admin.execute(
            """
            CREATE TABLE info (id int PRIMARY KEY, body text, published boolean);
            INSERT INTO info VALUES (1, '', true);
            GRANT SELECT ON info TO ayb_authenticated;
            ALTER TABLE info ENABLE ROW LEVEL SECURITY;
            CREATE FUNCTION is_public(int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
                AS $$ SELECT i.published FROM public.INFO i WHERE i.id = $1 $$;
            CREATE POLICY p ON info USING (is_public(id));
            """
        )
        private = {"id": 1, "body": "secret", "published": False}
        seen = await engine.ask("info", MEMBERS, [private])
        assert all(seen.by(member) == set() for member in MEMBERS)
        plan = engine.visibility.plan_of(await engine.relid("info"), ROLE)
        assert plan.form == "opaque"
        assert "public.is_public(), which names the table" in str(plan.reason)
