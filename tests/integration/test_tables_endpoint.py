"""`GET /api/realtime/tables`, over the gateway's own login in a real Postgres."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.auth.api_keys import ApiKeys, key_throttle
from gateway.auth.verifier import TokenVerifier
from gateway.tables import catalog as catalog_module
from gateway.tables.catalog import Catalog
from gateway.tables.recent_answers import FRESH_SECONDS, RecentAnswers
from gateway.tables.roles import Roles
from gateway.web.authentication import Authentication
from gateway.web.error_responses import install_error_handlers
from gateway.web.tables import tables_router
from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.metrics import RelayMetrics
from shared.pool import open_pool
from tests.support.ayb_tables import add_api_key, make_api_keys
from tests.support.tokens import claims, gateway_settings, hs256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.databases import Database

TABLES = """
    CREATE SCHEMA app;
    CREATE SCHEMA hidden;
    CREATE TABLE posts (id bigint PRIMARY KEY, title varchar(80), secret text NOT NULL);
    CREATE TABLE app."Odd,Name" (b int, "a.a" numeric(5, 2)[], PRIMARY KEY ("a.a", b));
    CREATE TABLE hidden.shown (id int);
    CREATE TABLE keyless (x timestamptz);
    CREATE TABLE unreadable (id int);
    CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (9);
    CREATE VIEW seen AS SELECT 1 AS one;
    GRANT USAGE ON SCHEMA app TO ayb_authenticated;
    GRANT SELECT (id, title) ON posts TO ayb_authenticated;
    GRANT SELECT ON app."Odd,Name", hidden.shown, keyless, seen, parts TO ayb_authenticated;
    ALTER TABLE keyless DROP COLUMN x, ADD COLUMN y text;
    CREATE ROLE web_anon NOLOGIN;
    GRANT web_anon TO ayb_gateway;
    GRANT SELECT ON keyless TO web_anon;
"""


@pytest.fixture
async def tables(database: Database) -> AsyncIterator[Database]:
    """A database with captured tables, of which the role may read some."""
    await database.execute(TABLES)
    async with database.connect() as relay:
        capture = Capture(
            relay, [parse_pattern("*.*")], lock_milliseconds=500, metrics=RelayMetrics()
        )
        await capture.install()
    await database.execute("CREATE TABLE late (id int); GRANT SELECT ON late TO ayb_authenticated")
    yield database
    await database.execute("DROP OWNED BY web_anon; DROP ROLE web_anon")


@contextlib.asynccontextmanager
async def endpoint(
    database: Database, *, auth: bool = True, anonymous_role: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        answers = RecentAnswers(fresh_seconds=0.05)
        options = gateway_settings().token_options
        keys = ApiKeys(pool, options.mapping, throttle=key_throttle())
        app = FastAPI()
        install_error_handlers(app)
        app.include_router(
            tables_router(
                authentication=Authentication(
                    verifier=TokenVerifier(options, api_keys=keys) if auth else None,
                    anonymous_role=anonymous_role,
                    roles=Roles(pool, answers),
                ),
                catalog=Catalog(pool, None, answers),
            )
        )
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test"
        ) as client:
            yield client


async def listed(client: httpx.AsyncClient, token: str | None = None) -> dict[str, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = await client.get("/api/realtime/tables", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "private, no-store"
    body = answer.json()
    assert body["truncated"] is False
    return {table["table"]: table for table in body["tables"]}


async def test_what_the_role_may_read_is_listed(tables: Database) -> None:
    """Captured tables and readable columns, with types and key; nothing else is mentioned."""
    async with endpoint(tables) as client:
        found = await listed(client, hs256(claims()))
    assert list(found) == ["keyless", "parts", "posts", "app.Odd,Name"]
    assert found["posts"] == {
        "table": "posts", "parameter": "posts", "key": ["id"],
        "columns": [
            {"name": "id", "type": "bigint", "nullable": False},
            {"name": "title", "type": "character varying(80)", "nullable": True},
        ],
    }  # fmt: skip
    assert found["app.Odd,Name"]["parameter"] == 'app."Odd,Name"'
    assert found["app.Odd,Name"]["key"] == ["a.a", "b"]
    assert found["app.Odd,Name"]["columns"][1]["type"] == "numeric(5,2)[]"
    assert found["keyless"]["columns"] == [{"name": "y", "type": "text", "nullable": True}]
    assert found["keyless"]["key"] == []


async def test_a_key_column_that_is_hidden_is_not_mentioned(tables: Database) -> None:
    """Of a key only the columns that the role may read are listed."""
    await tables.execute("REVOKE SELECT ON posts FROM ayb_authenticated")
    await tables.execute("REVOKE SELECT (id) ON posts FROM ayb_authenticated")
    async with endpoint(tables) as client:
        found = await listed(client, hs256(claims()))
        assert "posts" not in found
        await tables.execute("GRANT SELECT (title) ON posts TO ayb_authenticated")
        await _settled()
        assert (await listed(client, hs256(claims())))["posts"]["key"] == []


async def test_a_revoked_grant_counts_within_a_moment(tables: Database) -> None:
    """Answers are as old as other answers of the catalogs at most."""
    assert FRESH_SECONDS <= 1
    async with endpoint(tables) as client:
        assert "keyless" in await listed(client, hs256(claims()))
        await tables.execute("REVOKE SELECT ON keyless FROM ayb_authenticated")
        await _settled()
        assert "keyless" not in await listed(client, hs256(claims()))


async def test_each_client_gets_its_own_list(tables: Database) -> None:
    """By role; by the tables of an API key; everything while authentication is off."""
    await make_api_keys(tables)
    key = await add_api_key(tables, "u@x", allowed_tables=["posts", "unreadable", "app.Odd,Name"])
    async with endpoint(tables, anonymous_role="web_anon") as client:
        assert list(await listed(client)) == ["keyless"]
        assert list(await listed(client, key)) == ["posts", "app.Odd,Name"]
        assert len(await listed(client, hs256(claims()))) == 4
    async with endpoint(tables, auth=False) as client:
        found = await listed(client)
    assert {"unreadable", "hidden.shown", "posts"} <= found.keys()
    assert [column["name"] for column in found["posts"]["columns"]] == ["id", "title", "secret"]


async def test_nobody_else_gets_a_list(tables: Database) -> None:
    """Without a token, and with one that is not valid; a token in the URL does not count."""
    async with endpoint(tables) as client:
        for headers, parameters, message in (
            ({}, {}, "authentication required"),
            ({}, {"token": hs256(claims())}, "authentication required"),
            ({"Authorization": "Bearer x"}, {}, "invalid or expired token"),
        ):
            answer = await client.get("/api/realtime/tables", headers=headers, params=parameters)
            assert (answer.status_code, answer.json()["message"]) == (401, message)
        past = hs256(claims(exp=int(time.time()) - 1))
        answer = await client.get(
            "/api/realtime/tables", headers={"Authorization": f"Bearer {past}"}
        )
        assert "expired" in answer.headers["www-authenticate"]


async def test_a_list_is_bounded(tables: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a number of tables the list ends, and says so."""
    monkeypatch.setattr(catalog_module, "MOST_LISTED", 2)
    async with endpoint(tables) as client:
        answer = await client.get(
            "/api/realtime/tables", headers={"Authorization": f"Bearer {hs256(claims())}"}
        )
    assert [table["table"] for table in answer.json()["tables"]] == ["keyless", "parts"]
    assert answer.json()["truncated"] is True


async def _settled() -> None:
    """Wait until answers that are kept are too old."""
    end = time.monotonic() + 0.06
    while time.monotonic() < end:
        time.sleep(0.01)  # noqa: ASYNC251 (nothing else runs)
