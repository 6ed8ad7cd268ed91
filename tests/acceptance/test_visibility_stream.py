"""Who sees what, at the sockets: many clients, and rules that change while they are connected."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.support.sse_client import SseClient
    from tests.support.stack import Stack

USERS = [f"00000000-0000-4000-8000-{n:012}" for n in range(50)]


async def ids(client: SseClient, count: int) -> list[tuple[str, int]]:
    return [(m.json()["action"], m.json()["record"]["id"]) for m in await client.take(count)]


async def test_one_bad_claim_among_fifty(stack: Stack) -> None:
    """A `sub` that is not a UUID, where the policy casts it, costs that client its events and no
    one else a single one (CASE 13).
    """
    await stack.create(
        """
        CREATE TABLE posts (id int PRIMARY KEY, author_id uuid);
        ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON posts TO ayb_authenticated;
        CREATE POLICY own ON posts USING (author_id = current_setting('ayb.user_id')::uuid);
        CREATE TABLE notes (id int PRIMARY KEY); GRANT SELECT ON notes TO ayb_authenticated;
        """,
        "posts",
        "notes",
    )
    async with AsyncExitStack() as open_streams:
        clients = [
            await open_streams.enter_async_context(stack.stream("posts", token=stack.token(user)))
            for user in USERS
        ]
        bad = [
            await open_streams.enter_async_context(
                stack.stream("posts,notes", token=stack.token(user))
            )
            for user in ("not a uuid", "0", "' OR true --")
        ]
        for client in (*clients, *bad):
            await client.connected()
        for turn in range(3):
            for n, user in enumerate(USERS):
                await stack.sql("INSERT INTO posts VALUES ($1, $2)", turn * 100 + n, user)
        for n, client in enumerate(clients):
            assert await ids(client, 3) == [("create", turn * 100 + n) for turn in range(3)]
            assert [event.type for event in client.events] == ["connected", *["message"] * 3]
        for client in bad:
            assert (await client.next()).type == "error"
            await client.silence(0.1)
            assert client.messages == []
        # What they have missed is not known: they are asked to fetch again, and that is counted.
        await stack.sql("INSERT INTO notes VALUES (1)")
        for client in bad:
            resync = await client.next()
            assert (resync.type, resync.json()["tables"]) == ("resync", ["posts"])
            assert (await client.next_message()).json()["table"] == "notes"
        metrics = await text_of(f"{stack.gateway_url}/metrics")
        assert 'ayb_resyncs_total{reason="policy"} 3.0' in metrics
    assert stack.log("gateway").count("a policy raises") < 10  # nor does it fill the log
    assert "ayb_visibility_differences_total{" not in metrics


async def text_of(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(url)).text


async def test_rights_change_while_connected(start_stack: Any) -> None:
    """Membership in a table or role, policies, grants: the next change follows them (CASE 17)."""
    stack: Stack = await start_stack()
    crew = f"crew_{time.time_ns()}"
    await stack.create(
        """
        CREATE TABLE rooms (id int PRIMARY KEY, room int, body text);
        CREATE TABLE members (room int, user_id text);
        ALTER TABLE rooms ENABLE ROW LEVEL SECURITY; ALTER TABLE members ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON rooms, members TO ayb_authenticated;
        CREATE POLICY mine ON members USING (user_id = current_setting('ayb.user_id'));
        CREATE POLICY inside ON rooms USING
            (EXISTS (SELECT FROM members m WHERE m.room = rooms.room));
        INSERT INTO members VALUES (1, 'a'), (1, 'b');
        CREATE TABLE marks (id int PRIMARY KEY);
        GRANT SELECT ON marks TO ayb_authenticated;
        """,
        "rooms", "members", "marks",
    )  # fmt: skip
    await stack.sql(f"CREATE ROLE {crew} NOLOGIN")
    try:
        async with (
            stack.stream("rooms,marks", token=stack.token("a")) as a,
            stack.stream("rooms,marks", token=stack.token("b")) as b,
        ):
            await a.connected()
            await b.connected()
            number = 0

            async def write(*seen_by: SseClient) -> None:
                nonlocal number
                number += 1
                await stack.sql("INSERT INTO rooms VALUES ($1, 1, 'x')", number)
                await stack.sql("INSERT INTO marks VALUES ($1)", -number)
                for client in (a, b):
                    seen = [number] if client in seen_by else []
                    expected = [("create", id_) for id_ in (*seen, -number)]
                    assert await ids(client, len(expected)) == expected

            await write(a, b)
            await stack.sql("DELETE FROM members WHERE user_id = 'a'")
            await write(b)
            await stack.sql("INSERT INTO members VALUES (1, 'a'); DROP POLICY inside ON rooms")
            await write()
            await stack.sql(f"CREATE POLICY crew ON rooms TO {crew} USING (true)")
            await write()
            await stack.sql(f"GRANT {crew} TO ayb_authenticated")
            await write(a, b)
            await stack.sql(f"REVOKE {crew} FROM ayb_authenticated")
            await write()
            await stack.sql("ALTER TABLE rooms DISABLE ROW LEVEL SECURITY")
            await write(a, b)
            await stack.sql("""
                ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
                CREATE POLICY half ON rooms USING (current_setting('ayb.user_id') = 'b');
            """)
            await write(b)
            await stack.sql("REVOKE SELECT ON rooms FROM ayb_authenticated")
            await write()
            await stack.sql("GRANT SELECT ON rooms TO ayb_authenticated")
            await write(b)
    finally:
        await stack.stop("gateway")
        await stack.sql(f"DROP OWNED BY {crew}; DROP ROLE {crew}")


async def test_a_column_that_may_not_be_read(stack: Stack) -> None:
    """Without SELECT on a column neither its name nor its values appear anywhere: not in records,
    keys or errors, nor in the log (CASE 18).
    """
    await stack.create(
        """
        CREATE TABLE staff (id int, salary int, name text, PRIMARY KEY (salary, id));
        GRANT SELECT (id, name) ON staff TO ayb_authenticated;
        ALTER TABLE staff ENABLE ROW LEVEL SECURITY;
        CREATE POLICY rich ON staff USING (1000000 / salary > 0);
        CREATE TABLE hidden (id int PRIMARY KEY);
        """,
        "staff", "hidden",
    )  # fmt: skip
    token = stack.token()
    async with stack.stream("hidden", token=token) as refused:
        assert refused.status == 403
    async with stack.stream("staff", token=token, leave="true") as client:
        await client.connected()
        await stack.sql("INSERT INTO staff VALUES (1, 424242, 'Ann')")
        await stack.sql("UPDATE staff SET name = 'Anna'")
        await stack.sql("DELETE FROM staff")
        await stack.sql("INSERT INTO staff VALUES (2, 0, 'division by zero')")
        await stack.sql("INSERT INTO staff VALUES (3, 424242, 'last')")
        while not client.messages or client.messages[-1].json()["record"].get("name") != "last":
            await client.next()
        records = [(m.json()["action"], m.json()["record"]) for m in client.messages]
        assert records[:3] == [
            ("create", {"id": 1, "name": "Ann"}),
            ("update", {"id": 1, "name": "Anna"}),
            ("delete", {"id": 1}),
        ]
        for text in (bytes(client.raw).decode(), stack.log("gateway")):
            assert "salary" not in text
            assert "424242" not in text
        assert b"division by zero" not in client.raw


async def test_nothing_stays_on_a_pooled_connection(start_stack: Any) -> None:
    """Users in turn, then an anonymous one, over a pool of two: no setting or role remains (CASE
    20).
    """
    stack: Stack = await start_stack(
        gateway={
            "AYB_REALTIME_POOL_CONNECTIONS": "2",
            "AYB_AUTH_ANON_ROLE": "ayb_authenticated",
        }
    )
    await stack.create(
        """
        CREATE TABLE told (id int PRIMARY KEY, owner text);
        ALTER TABLE told ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON told TO ayb_authenticated;
        CREATE FUNCTION me() RETURNS text LANGUAGE plpgsql AS
            $$BEGIN RETURN current_setting('ayb.user_id', true); END$$;
        CREATE POLICY joined ON told USING (owner = current_setting('ayb.user_id', true));
        CREATE POLICY looped ON told USING (owner = me());
        """,
        "told",
    )
    async with (
        stack.stream("told", token=stack.token("a")) as a,
        stack.stream("told", token=stack.token("b")) as b,
        stack.stream("told") as nobody,
    ):
        for client in (a, b, nobody):
            await client.connected()
        for turn in range(20):
            await stack.sql(
                "INSERT INTO told VALUES ($1, 'a'), ($1 + 1, 'b'), ($1 + 2, '')", turn * 3
            )
        created = [("create", turn * 3) for turn in range(20)]
        assert await ids(a, 20) == created
        assert await ids(b, 20) == [(action, id_ + 1) for action, id_ in created]
        assert await ids(nobody, 20) == [(action, id_ + 2) for action, id_ in created]
        left = await stack.rows(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'ayb-gateway'"
        )
        assert [row["usename"] for row in left] == ["ayb_gateway"]
