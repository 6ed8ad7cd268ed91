"""The gateway beside AYB's own server: its API keys, its log-outs, its OAuth streams."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx

from gateway.auth.api_key_watch import LOOK_SECONDS
from tests.support.ayb_tables import add_api_key, change_api_key, make_api_keys
from tests.support.browser import PAGES
from tests.support.listening import listening

if TYPE_CHECKING:
    from tests.support.requirements import Requirements
    from tests.support.stack import Stack

TABLES = """
    CREATE TABLE posts (id int PRIMARY KEY, author text);
    CREATE TABLE other (id int PRIMARY KEY);
    GRANT SELECT ON posts, other TO ayb_authenticated;
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON posts USING (author = current_setting('ayb.user_email'));
"""


async def test_an_api_key_opens_a_stream_and_ends_it(start_stack: Any) -> None:
    """It sees what its user may see, of its tables; revoked, it ends its streams within a minute.

    The stream says `expired` as for a token. The key is in no log.
    """
    stack: Stack = await start_stack(gateway={"AYB_AUTH_API_KEYS": "true"})
    await make_api_keys(stack.database)
    key = await add_api_key(stack.database, "a@x", allowed_tables=["posts"])
    free = await add_api_key(stack.database, "b@x")
    await stack.create(TABLES, "posts", "other")
    async with httpx.AsyncClient(trust_env=False, base_url=stack.gateway_url) as http:
        bearer = {"Authorization": f"Bearer {key}"}
        denied = await http.get("/api/realtime?tables=posts,other", headers=bearer)
        assert (denied.status_code, denied.json()["message"]) == (
            403,
            "permission denied for table: other",
        )
        unknown = await http.get("/api/realtime", params={"tables": "posts", "token": f"{key}0"})
        assert (unknown.status_code, unknown.json()["message"]) == (401, "invalid or expired token")
    async with (
        stack.stream("posts", token=key) as client,
        stack.stream("posts,other", token=free) as other,
    ):
        await client.connected()
        await other.connected()
        await stack.sql("INSERT INTO posts VALUES (1, 'b@x'), (2, 'a@x')")
        assert (await client.next_message()).json()["record"]["id"] == 2
        assert (await other.next_message()).json()["record"]["id"] == 1
        await change_api_key(stack.database, key, "revoked_at = now()")
        async with asyncio.timeout(LOOK_SECONDS + 20):
            while (await client.next(LOOK_SECONDS + 20)).type != "expired":
                pass
        await client.ended()
        await stack.sql("INSERT INTO posts VALUES (3, 'b@x')")
        assert (await other.next_message()).json()["record"]["id"] == 3
    logged = stack.log("gateway")
    assert "API key was revoked" in logged
    assert key[4:] not in logged
    assert free[4:] not in logged


async def test_the_npm_client_logs_out(stack: Stack, require: Requirements) -> None:
    """Its refresh tokens are void on both gateways then, whichever it logged out from."""
    node = require.program("node", package="nodejs")
    require.that((PAGES / "node_modules").is_dir(), f"npm ci has not run in {PAGES}")
    await stack.add_user("user@example.com", "password")
    other = await stack.add_gateway("other")
    process = await asyncio.create_subprocess_exec(
        node, PAGES / "logout.mjs", stack.gateway_url, other, "user@example.com", "password",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    seen = json.loads(said)
    assert seen.pop("logout") == "ok"
    assert seen.pop("token") is None
    assert seen.pop("again") == "ok"
    assert set(seen.values()) == {"401 invalid or expired refresh token"}
    assert len(seen) == 4


class AybServer:
    """Stands in for AYB's server: answers each request as `answer` says, and keeps its head."""

    def __init__(self) -> None:
        self.answer = b""
        self.heads: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        self.writers.append(writer)
        writer.write(self.answer)
        if not self.answer.startswith(STREAM):
            return
        await reader.read()
        self.ended.set()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nSet-Cookie: a=b\r\n\r\n"
CONNECTED = b'event: connected\ndata: {"clientId":"c1"}\n\n'


async def test_oauth_streams_are_passed_on(start_stack: Any) -> None:
    """To AYB's server, and there only; with nothing of the request, and an end on either side."""
    ayb = AybServer()
    async with listening(ayb.serve) as port:
        url = f"http://127.0.0.1:{port}"
        stack: Stack = await start_stack(gateway={"AYB_SERVER_URL": f"{url}/base/"})
        path = f"{stack.gateway_url}/api/realtime"
        secret = stack.token()
        headers = {
            "Authorization": f"Bearer {secret}",
            "Cookie": "c=1",
            "Accept": "text/event-stream",
        }
        async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=15) as http:
            ayb.answer = STREAM + CONNECTED
            asked = {"oauth": "true", "token": secret, "tables": "x", "url": "http://192.0.2.1/"}
            async with http.stream("GET", path, params=asked) as stream:
                assert stream.status_code == 200
                assert stream.headers["content-type"] == "text/event-stream"
                assert stream.headers["access-control-allow-origin"] == "*"
                assert "set-cookie" not in stream.headers
                parts = stream.aiter_raw()
                assert await anext(parts) == CONNECTED
                ayb.writers[-1].write(b"event: oauth\ndata: {}\n\n")
                assert await anext(parts) == b"event: oauth\ndata: {}\n\n"
                ayb.writers[-1].close()  # AYB ends its stream after the event
                assert [part async for part in parts] == []
            head = ayb.heads[-1].decode()
            assert head.startswith("GET /base/api/realtime?oauth=true HTTP/1.1\r\n")
            assert "x-forwarded-for: 127.0.0.1" in head.lower()
            for part in (secret, "authorization", "cookie", "192.0.2.1", "tables"):
                assert part not in head.lower()

            ayb.ended.clear()
            async with http.stream("GET", path, params={"oauth": "true"}) as stream:
                assert await anext(stream.aiter_raw()) == CONNECTED
            async with asyncio.timeout(10):
                await ayb.ended.wait()  # the client has gone

            ayb.answer = STREAM + b":" + b"x" * 300_000
            async with http.stream("GET", path, params={"oauth": "true"}) as stream:
                assert sum([len(part) async for part in stream.aiter_raw()]) <= 256 * 1024

            for answer in (
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
                b"nonsense\r\n\r\n",
                b"",
            ):
                ayb.answer = answer
                seen = len(ayb.heads)
                plain = await http.get(path, params={"oauth": "true"}, headers={"Accept": "*/*"})
                assert (plain.status_code, plain.json()["message"]) == (
                    503,
                    "AYB's server unavailable",
                )
                passing = await http.get(path, params={"oauth": "true"})
                assert passing.status_code == 200
                assert b"event: busy" in passing.content
                assert len(ayb.heads) == seen + 2

            via = await http.get(
                path, params={"oauth": "true"}, headers={"Via": "1.1 ayb-realtime"}
            )
            assert via.status_code == 400
            assert "leads back" in stack.log("gateway")

            ayb.answer = STREAM + CONNECTED
            ayb.ended.clear()
            async with http.stream("GET", path, params={"oauth": "true"}) as stream:
                parts = stream.aiter_raw()
                assert await anext(parts) == CONNECTED
                async with asyncio.timeout(20):
                    assert await stack.stop("gateway") == 0
                    await ayb.ended.wait()
    assert secret not in stack.log("gateway")


async def test_without_ayb_oauth_streams_are_refused(stack: Stack) -> None:
    """Where the gateway knows no server of AYB, it says so, and does not ask for a token."""
    async with httpx.AsyncClient(trust_env=False, base_url=stack.gateway_url) as http:
        answer = await http.get("/api/realtime?oauth=true")
        assert answer.status_code == 400
        assert "AYB_SERVER_URL" in answer.json()["message"]
        for query in ("oauth=1", "oauth=", "xoauth=true", "oauth=false&tables=x"):
            assert (await http.get(f"/api/realtime?{query}")).status_code == 401
