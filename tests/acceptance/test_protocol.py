"""The contract of docs/protocol.md, for one request and one gateway."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.support.stack import Stack

TABLES = """
    CREATE SCHEMA app; CREATE SCHEMA other;
    GRANT USAGE ON SCHEMA app, other TO ayb_relay, ayb_authenticated;
    CREATE TABLE posts (id int PRIMARY KEY);
    CREATE TABLE app.posts (id int PRIMARY KEY);
    CREATE TABLE app.orders (id int PRIMARY KEY);
    CREATE TABLE app.twice (id int PRIMARY KEY); CREATE TABLE other.twice (id int PRIMARY KEY);
    CREATE TABLE "Capital" (id int PRIMARY KEY);
    CREATE TABLE "a,b" (id int PRIMARY KEY);
    CREATE TABLE "Größe" (id int PRIMARY KEY);
    CREATE VIEW seen AS SELECT * FROM posts;
    GRANT TRIGGER ON ALL TABLES IN SCHEMA app TO ayb_relay;
    GRANT TRIGGER ON ALL TABLES IN SCHEMA other TO ayb_relay;
    GRANT SELECT ON ALL TABLES IN SCHEMA public, app, other TO ayb_authenticated;
    REVOKE ALL ON app.orders FROM ayb_authenticated;
"""
NAMES = (
    "posts",
    "app.posts",
    "app.orders",
    "app.twice",
    "other.twice",
    '"Capital"',
    '"a,b"',
    '"Größe"',
)


@pytest.fixture
async def stack(start_stack: Any) -> Stack:
    stack: Stack = await start_stack(
        relay={"AYB_REALTIME_TABLES": "public.*,app.*,other.*"},
        gateway={
            "AYB_CORS_ORIGINS": "https://app.example.com,http://localhost:3000",
            "AYB_REALTIME_MAX_CONNECTIONS": "4",
            "AYB_REALTIME_MAX_CONNECTIONS_PER_USER": "2",
            "AYB_REALTIME_HEARTBEAT_SECONDS": "0.5",
        },
    )
    await stack.create(TABLES, *NAMES)
    return stack


async def ask(stack: Stack, query: str, method: str = "GET", **headers: str) -> httpx.Response:
    url = f"{stack.gateway_url}/api/realtime{query}"
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(method, url, headers=headers)


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(url)


async def test_names_as_clients_write_them(stack: Stack) -> None:
    """A bare name is that of public, or of the only schema that has it; quotes, %2C and blanks are
    as in SQL and URLs; a list may be split over several parameters.
    """
    token = stack.token()
    for tables, heard in (
        ("posts", ["posts"]),
        ("%20posts%20,,", ["posts"]),
        ("public.posts", ["posts"]),
        ("app.posts", ["app.posts"]),
        ("posts%2Capp.posts", ["posts", "app.posts"]),
        ("posts&tables=app.posts", ["posts", "app.posts"]),
        ('%22app%22.%22posts%22,"posts"', ["posts", "app.posts"]),
        ("other.twice", ["other.twice"]),
        ("Capital", ["Capital"]),
        ("%22a,b%22", ["a,b"]),
        ("%22a%2Cb%22,Capital", ["Capital", "a,b"]),
        ("Gr%C3%B6%C3%9Fe", ["Größe"]),
    ):
        client = stack.stream("", token=token)
        client.url = f"{stack.gateway_url}/api/realtime?tables={tables}".replace('"', "%22")
        async with client:
            await client.connected()
            await stack.sql("""
                INSERT INTO posts VALUES (1); INSERT INTO app.posts VALUES (1);
                INSERT INTO other.twice VALUES (1); INSERT INTO "Capital" VALUES (1);
                INSERT INTO "a,b" VALUES (1); INSERT INTO "Größe" VALUES (1);
                DELETE FROM posts; DELETE FROM app.posts; DELETE FROM other.twice;
                DELETE FROM "Capital"; DELETE FROM "a,b"; DELETE FROM "Größe";
            """)
            told = [message.json() for message in await client.take(2 * len(heard))]
            assert [t["table"] for t in told] == heard * 2, tables
            assert {t["action"] for t in told} == {"create", "delete"}


async def test_names_that_are_none(stack: Stack) -> None:
    """Unknown and ambiguous names, views, system tables: the first is reported as written."""
    token = stack.token()
    for tables, name in (
        ("twice", "twice"), ("seen", "seen"), ("capital", "capital"), ("App.posts", "App.posts"),
        ("pg_catalog.pg_class", "pg_catalog.pg_class"), ("posts,no,nope", "no"),
        ("ayb_realtime.changes", "ayb_realtime.changes"), ("%22posts", '"posts'),
        ("posts;posts", "posts;posts"), ("p%00sts", "p\x00sts"), ("%ff%fe", "\ufffd\ufffd"),
        ("%22%27%20OR%20true%20--%22", "\"' OR true --\""), ("*", "*"), ("%25", "%"),
    ):  # fmt: skip
        answer = await ask(stack, f"?tables={tables}", Authorization=f"Bearer {token}")
        assert answer.status_code == 400, tables
        assert answer.json() == {"code": 400, "message": f"unknown table: {name}"}


async def test_limits_come_last(stack: Stack) -> None:
    """Per user, then in total: 429 with `Retry-After`, but only once token and tables are right; a
    client that leaves makes room.
    """
    users = [stack.token(f"user-{n}") for n in range(3)]
    opened = [stack.stream("posts", token=users[n % 2]) for n in range(4)]
    for client in opened[:2]:
        await client.open()
        await client.connected()
    third = await opened[2].open()
    assert (await third.connected()).status == 200
    url = "?tables=posts"
    limited = await ask(stack, url, Authorization=f"Bearer {users[0]}")
    assert limited.json() == {"code": 429, "message": "connection limit exceeded"}
    assert 2 <= int(limited.headers["retry-after"]) <= 10
    fourth = await opened[3].open()
    assert (await fourth.connected()).status == 200
    async with stack.stream("posts", token=users[0]) as busy:
        assert busy.status == 200
        event = await busy.next()
        assert (event.type, event.json()) == ("busy", limited.json())
        await busy.ended()
        assert busy.parser.retry_milliseconds in range(2_000, 11_000)
    full = await ask(stack, url, Authorization=f"Bearer {users[2]}")
    assert full.json() == {"code": 429, "message": "connection limit exceeded"}
    for query, headers, status in (
        (url, {}, 401), (url, {"Authorization": "Bearer x"}, 401),
        ("", {"Authorization": f"Bearer {users[0]}"}, 400),
        ("?tables=nothing", {"Authorization": f"Bearer {users[0]}"}, 400),
        ("?tables=app.orders", {"Authorization": f"Bearer {users[0]}"}, 403),
    ):  # fmt: skip
        assert (await ask(stack, query, **headers)).status_code == status
    opened[0].cut()
    async with asyncio.timeout(10):
        while True:
            async with stack.stream("posts", token=users[2]) as another:
                if (await another.next()).type == "connected":
                    break
    for client in opened[1:]:
        await client.close()


async def test_denied_tables(stack: Stack) -> None:
    """403 without SELECT on any column, with the table named as clients know it."""
    answer = await ask(stack, "?tables=posts,app.orders", Authorization=f"Bearer {stack.token()}")
    assert answer.status_code == 403
    assert answer.json() == {"code": 403, "message": "permission denied for table: app.orders"}


async def test_origins(stack: Stack) -> None:
    """A listed origin may read streams and refusals and passes preflight; no other may."""
    token = stack.token()
    for origin, is_listed in (
        ("https://app.example.com", True), ("http://localhost:3000", True),
        ("https://evil.example.com", False), ("https://app.example.com.evil", False),
        ("null", False),
    ):  # fmt: skip
        expected = origin if is_listed else None
        refusal = await ask(stack, "?tables=posts", Origin=origin)
        assert refusal.status_code == 401
        assert refusal.headers.get("access-control-allow-origin") == expected
        assert "Origin" in refusal.headers["vary"]
        async with stack.stream("posts", token=token, headers={"Origin": origin}) as client:
            assert client.headers.get("access-control-allow-origin") == expected
            assert client.headers["vary"] == "Origin"
            credentials = client.headers.get("access-control-allow-credentials")
            assert credentials == ("true" if is_listed else None)
            assert "content-encoding" not in client.headers
        preflight = await ask(
            stack, "?tables=posts", "OPTIONS", Origin=origin,
            **{
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers":
                    "authorization,last-event-id,cache-control,x-requested-with,x-any",
            },
        )  # fmt: skip
        assert preflight.status_code == (200 if is_listed else 400)
        if is_listed:
            assert "x-requested-with" in preflight.headers["access-control-allow-headers"]
            assert preflight.headers["access-control-allow-credentials"] == "true"
        assert preflight.headers.get("access-control-allow-origin") == expected


async def test_other_methods(stack: Stack) -> None:
    """Only GET opens the stream."""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await ask(stack, "?tables=posts", method)
        assert answer.status_code == 405
        assert answer.json() == {"code": 405, "message": "method not allowed"}
        assert answer.headers["allow"] == "GET, OPTIONS"
    assert (await ask(stack, "?tables=posts", "HEAD")).status_code == 405
    missing = await get(f"{stack.gateway_url}/api/nothing")
    assert missing.json() == {"code": 404, "message": "not found"}


async def test_positions_that_were_rotated_away(start_stack: Any) -> None:
    """A position older than the history gets `resync` `expired`; the stream is live (CASE 23)."""
    stack: Stack = await start_stack(relay={"AYB_REALTIME_RETENTION_SECONDS": "4"})
    await stack.create(
        "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated",
        "posts",
    )
    token = stack.token()
    async with stack.stream("posts", token=token) as client:
        await client.connected()
        start = client.last_event_id
        await stack.sql("INSERT INTO posts VALUES (0)")
        first = (await client.next_message()).id
        number = 0
        async with asyncio.timeout(60):
            while True:
                number += 1
                await stack.sql("INSERT INTO posts VALUES ($1)", number)
                await client.next_message()
                horizon = await stack.rows("SELECT first_batch FROM ayb_realtime.horizon")
                if horizon[0]["first_batch"] > int(first.split("-")[0]):
                    break
                await asyncio.sleep(0.1)
    await stack.restart("gateway")
    for shown in (start, first):
        async with stack.stream("posts", token=token, last_event_id=shown) as client:
            await client.connected()
            resync = await client.next()
            assert resync.type == "resync"
            assert resync.json() == {"reason": "expired", "tables": ["posts"]}
            number += 1
            await stack.sql("INSERT INTO posts VALUES ($1)", number)
            assert (await client.next_message()).json()["record"]["id"] == number


async def test_a_token_that_ends_in_the_middle_of_a_replay(start_stack: Any) -> None:
    """A stream whose token expires is closed in that second, even in the middle of a long replay,
    and sends nothing afterwards (CASE 27).
    """
    stack: Stack = await start_stack()
    await stack.create(
        "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated",
        "posts",
    )
    ends = int(time.time()) + 3
    async with (
        stack.stream("posts", token=stack.token(exp=ends)) as client,
        stack.database.connect() as connection,
    ):
        await client.connected()
        ended = asyncio.create_task(client.ended(20))
        number = 0
        while not ended.done():
            number += 1
            await connection.execute("INSERT INTO posts VALUES ($1)", number)
            await asyncio.sleep(0)
        await ended
    assert client.events[-1].type == "expired"
    assert client.events[-1].json() == {"message": "invalid or expired token"}
    numbers = [message.json()["record"]["id"] for message in client.messages]
    assert numbers == list(range(1, len(numbers) + 1))


async def the_bus_is(stack: Stack, state: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            said = (await get(f"{stack.gateway_url}/readyz")).json()
            if said["parts"]["bus"] == state:
                return said
            await asyncio.sleep(0.1)


async def test_beside_the_stream(stack: Stack) -> None:
    """Health, readiness with its reasons, and metrics that count what happened."""
    health = await get(f"{stack.gateway_url}/healthz")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    await the_bus_is(stack, "ok")  # once the first tick has come
    ready = await get(f"{stack.gateway_url}/readyz")
    assert ready.status_code == 200
    names = ("database", "outbox", "roles", "stream", "events", "drain", "bus", "lag")
    parts = dict.fromkeys(names, "ok")
    assert ready.json() == {"status": "ready", "parts": parts}
    async with stack.stream("posts", token=stack.token()) as client:
        await client.connected()
        await stack.sql("INSERT INTO posts SELECT generate_series(1, 5)")
        await client.take(5)
        await ask(stack, "?tables=posts")
        answer = await get(f"{stack.gateway_url}/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        for line in (
            "ayb_streams_open 1.0", "ayb_streams_opened_total 1.0", "ayb_events_sent_total 5.0",
            'ayb_streams_refused_total{status="401"} 1.0', "ayb_bus_connected 1.0",
            "ayb_bus_pushing 1.0", "ayb_holding 0.0", "ayb_streams_replaying 0.0",
        ):  # fmt: skip
            assert f"\n{line}\n" in answer.text, line
    relay = await get(f"{stack.url('relay')}/metrics")
    assert relay.status_code == 200
    await stack.stop("relay")
    said = await the_bus_is(stack, "no ticks from relay or redis: polling the outbox")
    assert said["status"] == "ready"
