"""A database whose encoding has no place for every text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gateway.visibility.engine import Image, Visibility
from tests.integration.visibility.conftest import (
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
    name = "test_visibility_latin1"
    more = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
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
