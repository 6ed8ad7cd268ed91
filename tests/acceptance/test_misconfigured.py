"""A deployment that is not set up right: the gateway says so, and never blames a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.support.stack import Stack

POSTS = "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated"


async def parts_once(stack: Stack, *, ready: bool) -> dict[str, str]:
    """Wait until the gateway is ready, or not; return what `/readyz` says of each part."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(20):
        while True:
            with contextlib.suppress(httpx.ConnectError):
                response = await http.get(f"{stack.gateway_url}/readyz")
                if (response.status_code == 200) is ready:
                    parts: dict[str, str] = response.json()["parts"]
                    return parts
            await asyncio.sleep(0.1)


async def ask(stack: Stack, token: str | None = None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(f"{stack.gateway_url}/api/realtime?tables=posts", headers=headers)


@pytest.fixture
def role() -> str:
    """A role that does not exist."""
    return f"missing_{time.time_ns()}"


@pytest.mark.parametrize("setting", ["AYB_AUTH_ROLE", "AYB_AUTH_ANON_ROLE"])
async def test_a_role_that_is_missing(start_stack: Any, role: str, setting: str) -> None:
    """A missing role, or one not granted, is a 503 that passes, and named by `/readyz`."""
    stack: Stack = await start_stack(gateway={setting: role}, start=False)
    await stack.start("relay")
    stack.launch("gateway")
    await stack.create(POSTS, "posts")
    token = stack.token() if setting == "AYB_AUTH_ROLE" else None
    parts = await parts_once(stack, ready=False)
    assert f'role "{role}" does not exist' in parts["roles"]
    assert "GRANT" in parts["roles"]
    answer = await ask(stack, token)
    assert answer.status_code == 503
    assert answer.json() == {"code": 503, "message": "not configured"}
    assert int(answer.headers["retry-after"]) > 0
    async with stack.stream("posts", token=token) as busy:
        event = await busy.next()
        assert (event.type, event.json()) == ("busy", answer.json())
    await stack.sql(f"CREATE ROLE {role}; GRANT SELECT ON posts TO {role}")
    try:
        await said_of_roles(stack, "is not granted")
        await stack.sql(f"GRANT {role} TO ayb_gateway; ALTER ROLE {role} BYPASSRLS")
        await said_of_roles(stack, "row security")
        assert (await ask(stack, token)).status_code == 503
        await stack.sql(f"ALTER ROLE {role} NOBYPASSRLS")
        assert (await parts_once(stack, ready=True))["roles"] == "ok"
        await connects(stack, token)
    finally:
        await stack.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def said_of_roles(stack: Stack, text: str) -> None:
    """Wait until the gateway is not ready for this reason."""
    async with asyncio.timeout(10):
        while text not in (await parts_once(stack, ready=False))["roles"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def connects(stack: Stack, token: str | None) -> None:
    """Wait until a stream is accepted."""
    async with asyncio.timeout(10):
        while True:
            async with stack.stream("posts", token=token) as client:
                if (await client.next()).type == "connected":
                    return
            await asyncio.sleep(0.2)


async def test_the_schema_is_dropped(stack: Stack) -> None:
    """Without the schema the gateway is not ready and says what to do; streams are to wait."""
    await stack.create(POSTS, "posts")
    token = stack.token()
    async with stack.stream("posts", token=token) as client:
        await client.connected()
        await stack.stop("relay")
        await stack.sql("DROP SCHEMA ayb_realtime CASCADE")
        parts = await parts_once(stack, ready=False)
        assert "ayb_realtime is missing" in parts["outbox"]
        assert "relay install" in parts["outbox"]
        await asyncio.sleep(1.5)  # what the catalogs said is believed for a second
        answer = await ask(stack, token)
        assert (answer.status_code, answer.json()["message"]) == (503, "not configured")


async def test_the_grants_are_missing(stack: Stack) -> None:
    """A gateway that may not read the outbox is not ready, and says so."""
    await stack.sql("REVOKE USAGE ON SCHEMA ayb_realtime FROM ayb_gateway")
    assert "permission denied" in (await parts_once(stack, ready=False))["outbox"]
    await stack.sql("GRANT USAGE ON SCHEMA ayb_realtime TO ayb_gateway")
    assert (await parts_once(stack, ready=True))["outbox"] == "ok"
