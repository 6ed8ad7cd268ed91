"""Stopping without harm to anyone: CASE 26 and 28."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time

import httpx
import pytest

from tests.support import fault_world
from tests.support.arena import Arena
from tests.support.arena_fixtures import OpenArena
from tests.support.crash import frozen
from tests.support.sse_client import SseClient
from tests.support.stack import Stack

STREAMS = 1_000
DRAIN_SECONDS = 4.0
GRACE_SECONDS = 10.0


@pytest.fixture
def many_files():
    """Let this process and its children open a few thousand files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8_192 if hard == resource.RLIM_INFINITY else min(hard, 8_192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_sigterm_with_a_thousand_streams(many_files, open_arena: OpenArena):
    """SIGTERM ends a full gateway within its drain time; its clients reconnect at spread times."""
    arena = await open_arena(
        readers=False,
        gateway={
            "AYB_REALTIME_DRAIN_DELAY_SECONDS": "2",
            "AYB_REALTIME_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "AYB_REALTIME_MAX_CONNECTIONS_PER_USER": str(2 * STREAMS),
        },
    )
    stack = arena.stack
    token = stack.token(fault_world.USERS[0])
    clients: list[SseClient] = []
    async with contextlib.AsyncExitStack() as exits:
        for _ in range(STREAMS // 50):
            opened = [stack.stream("posts", token=token) for _ in range(50)]
            await asyncio.gather(*(exits.enter_async_context(client) for client in opened))
            await asyncio.gather(*(client.connected() for client in opened))
            clients += opened
        ends: list[float] = []

        async def end(client: SseClient) -> None:
            await client.ended(60)
            ends.append(time.monotonic())

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(end(client))
            stopping = group.create_task(stack.stop("gateway"))
            await leaves(stack, token)
        assert stopping.result() == 0
        assert time.monotonic() - began < DRAIN_SECONDS + GRACE_SECONDS
    assert max(ends) - min(ends) > DRAIN_SECONDS / 2, "all streams ended at once"
    retries = [client.parser.retry_milliseconds for client in clients]
    assert None not in retries
    assert len(set(retries)) > STREAMS / 10, "the reconnects are not spread"


async def leaves(stack: Stack, token: str) -> None:
    """Check that a gateway first leaves its balancer while serving, and then stops accepting."""
    await readiness(stack, 503)
    async with stack.stream("posts", token=token) as newcomer:
        await newcomer.connected()
    await readiness(stack, None)


async def readiness(stack: Stack, expected: int | None) -> None:
    """Wait until `/readyz` answers like this; None is a refused connection."""
    async with asyncio.timeout(GRACE_SECONDS):
        while await _readiness(stack) != expected:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.02)


async def _readiness(stack: Stack) -> int | None:
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(f"{stack.gateway_url}/readyz")).status_code
        except httpx.ConnectError:
            return None


async def test_sigterm_while_postgres_is_frozen(arena: Arena):
    """A gateway stops in time although the database does not answer."""
    with frozen(arena.stack.postgres):
        await asyncio.sleep(1)  # so that questions are under way
        assert await arena.stack.stop("gateway") == 0


async def answers(url: str) -> None:
    """Wait until a gateway answers behind this URL."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(20):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await http.get(f"{url}/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_nginx_holds_nothing_back(open_arena: OpenArena, start_nginx, encoding: str):
    """Behind nginx with its defaults a single small event arrives at once, compressed or not."""
    arena = await open_arena(readers=False, gateway={"AYB_REALTIME_HEARTBEAT_SECONDS": "3600"})
    stack = arena.stack
    url = start_nginx(stack.gateway_url)
    await answers(url)
    async with (
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
        http.stream(
            "GET",
            f"{url}/api/realtime?tables=posts",
            headers={
                "Authorization": f"Bearer {stack.token(fault_world.USERS[0])}",
                "Accept-Encoding": encoding,
            },
        ) as response,
        asyncio.timeout(20),
    ):
        assert response.headers.get("content-encoding", "identity") == encoding
        text = ""
        chunks = response.aiter_text()
        while "event: connected" not in text:
            text += await anext(chunks)
        await stack.sql("INSERT INTO posts VALUES (77, NULL, true, 1, 1, 77, 'behind a proxy')")
        while "behind a proxy" not in text:
            text += await anext(chunks)


async def test_rolling_restart_behind_nginx(open_arena: OpenArena, start_nginx):
    """Two gateways behind nginx are restarted one after the other under load: nothing is lost."""
    arena = await open_arena(readers=False, gateway={"AYB_REALTIME_DRAIN_SECONDS": "2"})
    stack = arena.stack
    url = start_nginx(stack.gateway_url, await stack.add_gateway("second"))
    await answers(url)
    arena.add_readers(lambda: url)
    async with arena.load(pause=0.2):
        for name in ("gateway", "second", "gateway"):
            assert await stack.stop(name) == 0
            await stack.start(name)
            await arena.connected()
    await arena.settle()
    assert sum(reader.connections for reader in arena.readers) > len(arena.readers)
