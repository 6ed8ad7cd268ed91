"""What one client sees of its stream, from the first byte to the last."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import redis.asyncio as redis

from shared.channels import Channels
from tests.support.bus import history_of
from tests.support.sse_client import SseClient

if TYPE_CHECKING:
    from tests.support.stack import Stack

ALICE = "00000000-0000-4000-8000-00000000000a"
BOB = "00000000-0000-4000-8000-00000000000b"
POSTS = """
    CREATE TABLE posts (
        id bigint PRIMARY KEY,
        author_id uuid,
        title text,
        published boolean NOT NULL DEFAULT false
    );
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON posts TO ayb_authenticated;
    CREATE POLICY readable ON posts FOR SELECT TO ayb_authenticated
        USING (published OR author_id = current_setting('ayb.user_id')::uuid);
"""


@pytest.fixture
async def stack(start_stack: Any) -> Stack:
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_HEARTBEAT_SECONDS": "0.6"})
    await stack.create(POSTS, "posts")
    return stack


def records(client: SseClient) -> list[tuple[str, Any]]:
    return [(m.json()["action"], m.json()["record"]) for m in client.messages]


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(url, headers=headers)


async def test_refusals_have_their_status_and_message(stack: Stack) -> None:
    """Authentication is checked first, then the tables; every body has the protocol's form."""
    base = f"{stack.gateway_url}/api/realtime"
    token = stack.token(ALICE)
    await stack.create("CREATE TABLE secrets (id int PRIMARY KEY)", "secrets")
    for query, status, message in (
        ("", 401, "authentication required"),
        ("?tables=nothing", 401, "authentication required"),
        ("?tables=posts&token=x", 401, "invalid or expired token"),
        (f"?token={token}", 400, "tables parameter is required"),
        (f"?tables=&token={token}", 400, "tables parameter is required"),
        (f"?tables=,%20,&token={token}", 400, "at least one valid table is required"),
        (f"?tables=posts,nothing&token={token}", 400, "unknown table: nothing"),
        (f"?tables=pg_class&token={token}", 400, "unknown table: pg_class"),
        (f"?tables=a.b.c&token={token}", 400, "unknown table: a.b.c"),
        (f"?tables=posts,secrets&token={token}", 403, "permission denied for table: secrets"),
        (f"?tables={'x' * 50_000}&token={token}", 414, "request too long"),
    ):
        answer = await get(base + query)
        assert answer.status_code == status, query
        assert answer.json() == {"code": status, "message": message}
        assert answer.headers["content-type"] == "application/json"


async def test_a_stream_has_its_headers(stack: Stack) -> None:
    """The headers that browsers and proxies need, and any origin by default."""
    async with stack.stream("posts", token=stack.token(ALICE)) as client:
        assert client.status == 200
        expected = {
            "content-type": "text/event-stream",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
            "access-control-allow-origin": "*",
        }
        assert expected.items() <= client.headers.items()


async def test_connected_means_live(stack: Stack) -> None:
    """A row written at the instant `connected` arrives is delivered, a thousand times (CASE 21)."""
    token = stack.token(ALICE)

    async def client(number: int) -> None:
        async with stack.database.connect() as connection:
            for turn in range(50):
                row = number * 1000 + turn
                async with stack.stream("posts", token=token) as stream:
                    await stream.connected()
                    await connection.execute("INSERT INTO posts VALUES ($1, $2, 'x')", row, ALICE)
                    while (await stream.next_message()).json()["record"]["id"] != row:
                        pass

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(client(number))


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ("garbage", "unknown"),
        ("999999999999999999", "unknown"),
        ("7.1", "unknown"),
        ("-1", "unknown"),
        ("1-2-3", "unknown"),
        ("813-0", "expired"),
    ],
)
async def test_a_position_that_is_none_is_told_and_the_stream_is_live(
    stack: Stack, shown: str, reason: str
) -> None:
    """Garbage, a number in the future, another epoch, a number of an earlier database: `resync`,
    then live (CASE 23). A client that is cut off before the `resync` asks with the same position.
    """
    async with stack.stream("posts", token=stack.token(ALICE), last_event_id=shown) as client:
        before = client.last_event_id
        await client.connected()
        assert client.last_event_id == before
        resync = await client.next()
        assert resync.id not in ("", before)
        assert (resync.type, resync.json()) == (
            "resync",
            {"reason": reason, "tables": ["posts"]},
        )
        await stack.sql("INSERT INTO posts VALUES (1, $1, 'x')", ALICE)
        assert (await client.next_message()).json()["record"]["id"] == 1


async def test_a_stream_continues_behind_its_last_event(stack: Stack) -> None:
    """Given by header or parameter, a stream continues right after the position, in order."""
    token = stack.token(ALICE)
    async with stack.stream("posts", token=token) as client:
        await client.connected()
        await stack.sql("INSERT INTO posts SELECT g, $1, 'x' FROM generate_series(1, 5) g", ALICE)
        messages = await client.take(5)
    await stack.sql("INSERT INTO posts SELECT g, $1, 'x' FROM generate_series(6, 9) g", ALICE)
    for more in ({"last_event_id": messages[1].id}, {"lastEventId": messages[1].id}):
        async with stack.stream("posts", token=token, **more) as client:
            assert [m.json()["record"]["id"] for m in await client.take(7)] == list(range(3, 10))
            await client.silence()


async def test_heartbeats_move_an_idle_clients_position(stack: Stack) -> None:
    """A client that saw no event continues after everything that it did not need to see."""
    async with stack.stream("posts", token=stack.token(BOB)) as client:
        await client.connected()
        first = client.last_event_id
        await stack.sql("INSERT INTO posts VALUES (1, $1, 'private')", ALICE)
        async with asyncio.timeout(10):
            while client.last_event_id == first:
                with pytest.raises(TimeoutError):
                    await client.next(0.2)
        assert client.events[1:] == []


async def test_each_sees_what_its_policy_says(stack: Stack) -> None:
    """Own and published rows arrive, invisible ones do not, and deletes carry only the key."""
    async with (
        stack.stream("posts", token=stack.token(ALICE)) as alice,
        stack.stream("posts", token=stack.token(BOB)) as bob,
    ):
        await alice.connected()
        await bob.connected()
        await stack.sql(f"""
            INSERT INTO posts VALUES (1, '{ALICE}', 'draft');
            INSERT INTO posts VALUES (2, '{BOB}', 'own', false), (3, NULL, 'open', true);
            UPDATE posts SET published = true WHERE id = 1;
            DELETE FROM posts WHERE id = 2;
        """)
        await alice.take(4)
        await bob.take(4)

        def row(n: int, author: str | None, title: str, *, published: bool) -> dict[str, Any]:
            return {"id": n, "author_id": author, "title": title, "published": published}

        common = [
            ("create", row(3, None, "open", published=True)),
            ("update", row(1, ALICE, "draft", published=True)),
            ("delete", {"id": 2}),
        ]
        assert records(alice) == [("create", row(1, ALICE, "draft", published=False)), *common]
        assert records(bob) == [("create", row(2, BOB, "own", published=False)), *common]


async def test_a_secret_of_the_past_is_never_shown(stack: Stack) -> None:
    """A text that was private when it existed reaches only its author (CASES 15, 16)."""
    async with (
        stack.stream("posts", token=stack.token(ALICE)) as alice,
        stack.stream("posts", token=stack.token(BOB)) as bob,
    ):
        await alice.connected()
        await bob.connected()
        await stack.stop("relay")
        await stack.sql(f"""
            INSERT INTO posts VALUES (1, '{ALICE}', 'the secret');
            UPDATE posts SET title = '', published = true;
            INSERT INTO posts VALUES (2, '{BOB}', 'gone at once');
            DELETE FROM posts WHERE id = 2;
        """)
        await stack.start("relay")
        await alice.take(3)
        await bob.take(3)
        assert [(a, r["id"]) for a, r in records(alice)] == [
            ("create", 1), ("update", 1), ("delete", 2),
        ]  # fmt: skip
        assert [(a, r["id"]) for a, r in records(bob)] == [
            ("update", 1), ("create", 2), ("delete", 2),
        ]  # fmt: skip
        assert b"the secret" in alice.raw
        assert b"the secret" not in bob.raw


async def test_leaving_is_told_to_who_asks(stack: Stack) -> None:
    """An update that takes a row out of sight is silent, or a key-only delete (CASE 19)."""
    await stack.sql("INSERT INTO posts VALUES (1, $1, 'x', true)", ALICE)
    async with (
        stack.stream("posts", token=stack.token(BOB)) as silent,
        stack.stream("posts", token=stack.token(BOB), leave="true") as leaver,
    ):
        await silent.connected()
        await leaver.connected()
        await stack.sql("UPDATE posts SET published = false, title = 'hidden'")
        await stack.sql("UPDATE posts SET published = true, title = 'shown'")
        await silent.take(1)
        await leaver.take(2)
        shown = ("update", {"id": 1, "author_id": ALICE, "title": "shown", "published": True})
        assert records(silent) == [shown]
        assert records(leaver) == [("delete", {"id": 1}), shown]


async def test_rules_that_change_are_in_force_at_once(stack: Stack) -> None:
    """A revoked column, a dropped policy and a revoked table apply from the next change on."""
    async with stack.stream("posts", token=stack.token(BOB)) as bob:
        await bob.connected()
        await stack.sql("""
            REVOKE SELECT ON posts FROM ayb_authenticated;
            GRANT SELECT (id, published) ON posts TO ayb_authenticated;
        """)
        await stack.sql("INSERT INTO posts VALUES (1, NULL, 'hidden text', true)")
        assert (await bob.next_message()).json()["record"] == {"id": 1, "published": True}
        await stack.sql("DROP POLICY readable ON posts")
        await stack.sql("INSERT INTO posts VALUES (2, NULL, 'hidden text', true)")
        await bob.silence()
        await stack.sql("REVOKE SELECT (id, published) ON posts FROM ayb_authenticated")
        await stack.sql("INSERT INTO posts VALUES (3, NULL, 'hidden text', true)")
        error = await bob.next()
        assert (error.type, error.json()) == (
            "error",
            {"message": "posts: permission denied for table: posts"},
        )
        assert b"hidden text" not in bob.raw
        assert b"title" not in bob.raw


async def test_one_clients_bad_claim_is_its_own(stack: Stack) -> None:
    """A `sub` that does not cast costs only that client its events, with an error (CASE 13)."""
    await stack.sql("""
        DROP POLICY readable ON posts;
        CREATE POLICY own ON posts FOR SELECT TO ayb_authenticated
            USING (author_id = current_setting('ayb.user_id')::uuid);
    """)
    async with (
        stack.stream("posts", token=stack.token("not a uuid")) as bad,
        stack.stream("posts", token=stack.token(ALICE)) as alice,
    ):
        await bad.connected()
        await alice.connected()
        await stack.sql("INSERT INTO posts VALUES (1, $1, 'x')", ALICE)
        assert (await alice.next_message()).json()["record"]["id"] == 1
        assert (await bad.next()).type == "error"
        assert bad.messages == []


async def test_a_token_ends_its_stream(stack: Stack) -> None:
    """When `exp` comes the client gets `expired`, and the stream ends (CASE 27)."""
    token = stack.token(ALICE, exp=int(time.time()) + 2)
    async with stack.stream("posts", token=token) as client:
        await client.connected()
        await client.ended()
        assert client.events[-1].type == "expired"
    assert (await get(client.url, Authorization=f"Bearer {token}")).status_code == 401


async def test_truncate_and_large_records(start_stack: Any) -> None:
    """TRUNCATE is one control frame; a large row is sent as its key and says so (CASES 4, 9)."""
    stack: Stack = await start_stack(
        relay={"AYB_REALTIME_MAX_RECORD_BYTES": "1000"},
        gateway={"AYB_REALTIME_MAX_RECORD_BYTES": "1000"},
    )
    await stack.create(POSTS, "posts")
    async with stack.stream("posts", token=stack.token(ALICE)) as client:
        await client.connected()
        await stack.sql("INSERT INTO posts VALUES (1, $1, repeat('é', 5000))", ALICE)
        await stack.sql("INSERT INTO posts VALUES (2, $1, repeat('x', 5000))", BOB)
        await stack.sql("TRUNCATE posts")
        message = await client.next()
        assert message.data == (
            '{"action":"create","table":"posts","record":{"id":1},"truncated":true}'
        )
        truncate = await client.next()
        assert (truncate.type, truncate.json()) == ("truncate", {"table": "posts"})


async def test_deletes_to_those_who_could_see(start_stack: Any) -> None:
    """With AYB_REALTIME_DELETES=visible the old image decides."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_DELETES": "visible"})
    await stack.create(POSTS, "posts")
    await stack.sql(f"INSERT INTO posts VALUES (1, '{ALICE}', 'x', false), (2, NULL, 'x', true)")
    async with (
        stack.stream("posts", token=stack.token(ALICE)) as alice,
        stack.stream("posts", token=stack.token(BOB)) as bob,
    ):
        await alice.connected()
        await bob.connected()
        await stack.sql("DELETE FROM posts")
        await alice.take(2)
        await bob.take(1)
        assert records(alice) == [("delete", {"id": 1}), ("delete", {"id": 2})]
        assert records(bob) == [("delete", {"id": 2})]


async def test_without_a_token(start_stack: Any) -> None:
    """An anonymous role is judged by RLS; with authentication off everything is delivered."""
    stack: Stack = await start_stack(gateway={"AYB_AUTH_ANON_ROLE": "ayb_authenticated"})
    await stack.create(
        POSTS.replace("::uuid", "").replace("author_id =", "author_id::text ="), "posts"
    )
    open_url = await stack.add_gateway(
        "open", AYB_AUTH_ENABLED="false", AYB_AUTH_LOGIN_ENABLED="false"
    )
    async with stack.stream("posts") as anonymous, SseClient(open_url, tables="posts") as anybody:
        await anonymous.connected()
        await anybody.connected()
        await stack.sql(
            f"INSERT INTO posts VALUES (1, '{ALICE}', 'x', false), (2, NULL, 'y', true)"
        )
        assert (await anonymous.next_message()).json()["record"]["id"] == 2
        assert [m.json()["record"]["id"] for m in await anybody.take(2)] == [1, 2]


async def test_anonymous_claims(start_stack: Any) -> None:
    """Without a token the claims are the anonymous role, as PostgREST has it: policies that ask for
    it match, and those that ask for a claim get NULL instead of an error."""
    role = f"anon_{time.time_ns()}"
    stack: Stack = await start_stack(gateway={"AYB_AUTH_ANON_ROLE": role}, start=False)
    await stack.start("relay")
    await stack.sql(f"CREATE ROLE {role}; GRANT {role} TO ayb_gateway")
    try:
        await stack.start("gateway")
        await stack.create(
            f"""
            CREATE TABLE posts (id int PRIMARY KEY, who text);
            GRANT SELECT ON posts TO {role};
            ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
            CREATE POLICY anon ON posts USING (
                who = current_setting('request.jwt.claims', true)::json ->> 'role'
                OR who = current_setting('request.jwt.claims', true)::json ->> 'sub');
            """,
            "posts",
        )
        async with stack.stream("posts") as client:
            await client.connected()
            await stack.sql(f"INSERT INTO posts VALUES (1, 'x'), (2, '{role}'), (3, '')")
            await stack.sql(f"INSERT INTO posts VALUES (4, '{role}')")
            seen = [message.json()["record"]["id"] for message in await client.take(2)]
        assert seen == [2, 4]
        assert "error" not in [event.type for event in client.events]
    finally:
        await stack.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_limits_per_user(start_stack: Any) -> None:
    """Streams over a user's limit get 429 with Retry-After; another user is admitted."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_MAX_CONNECTIONS_PER_USER": "2"})
    await stack.create(POSTS, "posts")
    alice = stack.token(ALICE)
    async with stack.stream("posts", token=alice), stack.stream("posts", token=alice) as second:
        answer = await get(second.url, Authorization=f"Bearer {alice}")
        assert answer.status_code == 429
        assert answer.json()["message"] == "connection limit exceeded"
        assert int(answer.headers["retry-after"]) > 0
        async with stack.stream("posts", token=stack.token(BOB)) as bob:
            await bob.connected()
    async with stack.stream("posts", token=alice) as again:
        await again.connected()


async def test_limits_per_address(start_stack: Any) -> None:
    """Anonymous streams over an address's limit get 429; one from another address is admitted."""
    stack: Stack = await start_stack(
        gateway={
            "AYB_AUTH_ANON_ROLE": "ayb_authenticated",
            "AYB_REALTIME_MAX_CONNECTIONS_PER_ADDRESS": "2",
        }
    )
    await stack.create(POSTS, "posts")
    async with stack.stream("posts"), stack.stream("posts") as second:
        await second.connected()
        assert (await get(second.url)).status_code == 429
        away = {"X-Forwarded-For": "192.0.2.1"}
        async with SseClient(stack.gateway_url, tables="posts", headers=away) as other:
            await other.connected()
    async with stack.stream("posts") as again:
        await again.connected()


async def test_a_slow_reader_gets_everything_at_its_own_pace(start_stack: Any) -> None:
    """A client that reads nothing for a while gets all events by replay, once and in order."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_MAX_PENDING_BYTES": "65536"})
    await stack.create(POSTS, "posts")
    token = stack.token(ALICE)
    async with stack.stream("posts", token=token) as slow:
        await slow.connected()
        slow.pause_reading()
        rows = 200  # 60 MB, more than any socket's buffers take
        for first in range(1, rows, 10):
            await stack.sql(
                "INSERT INTO posts SELECT g, $1, repeat('x', 300000) "
                "FROM generate_series($2::int, $2::int + 9) g", ALICE, first,
            )  # fmt: skip
        async with asyncio.timeout(60):
            while True:
                metrics = (await get(f"{stack.gateway_url}/metrics")).text
                if "ayb_streams_overflowed_total 0.0" not in metrics:
                    break
                await asyncio.sleep(0.1)
        assert slow.messages == []
        slow.resume_reading()
        seen = [m.json()["record"]["id"] for m in await slow.take(rows, seconds=60)]
        assert seen == list(range(1, rows + 1))


async def test_a_thousand_streams_are_drained(start_stack: Any) -> None:
    """SIGTERM ends a thousand streams in the drain time, spread, with status 0 (CASE 26)."""
    stack: Stack = await start_stack(
        gateway={
            "AYB_REALTIME_DRAIN_DELAY_SECONDS": "1",
            "AYB_REALTIME_DRAIN_SECONDS": "4",
            "AYB_REALTIME_MAX_CONNECTIONS_PER_USER": "2000",
        }
    )
    await stack.create(POSTS, "posts")
    token = stack.token(ALICE)
    clients = [stack.stream("posts", token=token) for _ in range(1000)]
    for start in range(0, 1000, 50):
        await asyncio.gather(*(client.open() for client in clients[start : start + 50]))
    await asyncio.gather(*(client.connected(60) for client in clients))
    began = time.monotonic()
    stopping = asyncio.create_task(stack.stop("gateway"))
    while (await get(f"{stack.gateway_url}/readyz")).status_code != 503:  # noqa: ASYNC110 (another process)
        await asyncio.sleep(0.05)

    async def until_end(client: SseClient) -> float:
        await client.ended(30)
        return time.monotonic() - began

    ends = await asyncio.gather(*(until_end(client) for client in clients))
    assert await stopping == 0
    assert all(client.events[-1].type == "closing" for client in clients)
    assert len({client.parser.retry_milliseconds for client in clients}) > 100
    assert max(ends) - min(ends) > 1.5
    for client in clients:
        client.cut()


async def test_coming_and_going_leaves_nothing_behind(stack: Stack) -> None:
    """Thousands of visits leave memory, descriptors and channels flat (CASE 25)."""
    token = stack.token(ALICE)
    process = psutil.Process(stack.child("gateway").pid)

    async def come_and_go(times: int) -> None:
        for turn in range(times):
            client = stack.stream("posts", token=token)
            await client.open()
            await client.connected()
            if turn % 2:
                client.cut()
            else:
                await client.close()

    async def wave() -> tuple[float, int]:
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(come_and_go(100))
        return process.memory_info().rss / 2**20, process.num_fds()

    client = redis.Redis.from_url(stack.valkey.url)

    async def is_left() -> bool:
        channels = await client.pubsub_channels("ayb:realtime:*:table:*")
        metrics = (await get(f"{stack.gateway_url}/metrics")).text
        return bool(
            channels or process.num_fds() > curve[0][1] or "ayb_streams_open 0.0" not in metrics
        )

    curve = [await wave() for _ in range(10)]
    print("MiB and descriptors after each thousand:", curve)
    assert curve[-1][0] - curve[1][0] < 10
    async with asyncio.timeout(20):
        while await is_left():  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.1)
    await client.aclose()


async def test_the_bus_is_not_trusted(start_stack: Any) -> None:
    """Malformed and foreign messages are dropped; a forged row is judged; signing drops both."""
    key = "a key of at least thirty-two characters"
    stack: Stack = await start_stack()
    await stack.create(POSTS, "posts")
    relid = (await stack.rows("SELECT 'posts'::regclass::oid::int AS oid"))[0]["oid"]
    client = redis.Redis.from_url(stack.valkey.url)
    history = await history_of(stack.database)
    bus = Channels.of(history)

    async def forge(batch: int) -> None:
        row = {"id": 66, "author_id": BOB, "title": "forged", "published": False}
        content = ["public.posts", relid, ["id"], [[0, 1, "I", row, None, False, False]]]
        channel = bus.table("public.posts")
        await client.publish(channel, b"\xff not json")
        await client.publish(
            channel, json.dumps([1, history, 1, batch, ["public.other", 1, [], []]])
        )
        await client.publish(channel, json.dumps([1, history, 1, batch, content]))
        await client.publish(bus.tick, "[99]")
        await client.publish(
            bus.tick,
            json.dumps([1, history, 1, batch, 0, time.time(), [["public.posts", relid, 1]]]),
        )

    async with (
        stack.stream("posts", token=stack.token(ALICE)) as alice,
        stack.stream("posts", token=stack.token(BOB)) as bob,
    ):
        await alice.connected()
        await bob.connected()
        await forge(int(bob.last_event_id) + 1)
        assert (await bob.next_message()).json()["record"]["id"] == 66  # his policy lets him
        await alice.silence()
    metrics = (await get(f"{stack.gateway_url}/metrics")).text
    assert "ayb_bus_messages_dropped_total 3.0" in metrics
    await stack.stop("relay")
    await stack.stop("gateway")
    for name in ("relay", "gateway"):
        stack.set(name, AYB_REALTIME_BUS_KEY=key)
        await stack.start(name)
    async with stack.stream("posts", token=stack.token(BOB)) as bob:
        await bob.connected()
        await forge(int(bob.last_event_id) + 1)
        await stack.sql("INSERT INTO posts VALUES (1, $1, 'real')", BOB)
        assert (await bob.next_message()).json()["record"]["title"] == "real"
        await bob.silence()
    await client.aclose()


async def test_a_gateway_that_has_heard_less(stack: Stack) -> None:
    """A client that comes from a gateway that is ahead of this one gets no `resync`: this one
    checks the outbox first.
    """
    await stack.add_gateway("deaf", AYB_REDIS_URL="redis://127.0.0.1:1")
    token = stack.token(ALICE)
    async with stack.stream("posts", token=token) as hearing:
        await hearing.connected()
        for number in range(10):
            await stack.sql("INSERT INTO posts VALUES ($1, $2, '')", 2 * number, ALICE)
            shown = (await hearing.next_message()).id
            async with stack.stream(
                "posts", token=token, gateway="deaf", last_event_id=shown
            ) as client:
                await client.connected()
                await stack.sql("INSERT INTO posts VALUES ($1, $2, '')", 2 * number + 1, ALICE)
                event = await client.next_message()
                assert event.json()["record"]["id"] == 2 * number + 1
                assert [e for e in client.events if e.type == "resync"] == []
            await hearing.next_message()


async def test_a_changed_key_is_a_delete_and_a_create(stack: Stack) -> None:
    """The old key goes, without a position of its own, and the new row comes."""
    async with stack.stream("posts", token=stack.token(ALICE)) as client:
        await client.connected()
        await stack.sql("INSERT INTO posts VALUES (1, $1, 'x')", ALICE)
        [created] = await client.take(1)
        await stack.sql("UPDATE posts SET id = 2")
        gone, new = await client.take(2)
        assert (gone.json()["action"], gone.json()["record"], gone.id) == (
            "delete",
            {"id": 1},
            created.id,
        )
        assert (new.json()["action"], new.json()["record"]["id"]) == ("create", 2)
        assert new.id != created.id


async def test_a_position_that_lies_ahead_is_refused_for_a_while(stack: Stack) -> None:
    """A gateway that lags behind another one never sets a client back: it asks it to reconnect."""
    token = stack.token(ALICE)
    async with stack.stream("posts", token=token) as client:
        await client.connected()
        ahead = str(int(client.last_event_id) + 1_000)
    async with stack.stream("posts", token=token, last_event_id=ahead) as client:
        event = await client.next()
        assert (event.type, event.json()) == (
            "busy",
            {"code": 503, "message": "position not reached yet"},
        )
