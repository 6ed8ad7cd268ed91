"""The gateway beside AYB's own server: its API keys, its log-outs, its OAuth streams."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx

from gateway.auth.api_key_watch import LOOK_SECONDS
from tests.support.ayb_tables import add_api_key, change_api_key, make_api_keys
from tests.support.browser import PAGES

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
