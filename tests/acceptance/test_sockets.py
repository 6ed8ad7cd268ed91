"""What others do with sockets: keep them idle, speak HTTP/1.0, send requests ahead."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.stack import Stack

POSTS = "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated"
FILES = 300
IDLE = 800

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(stack: Stack) -> Pair:
    parts = urlsplit(stack.gateway_url)
    return await asyncio.open_connection(parts.hostname, parts.port)


@contextlib.asynccontextmanager
async def sockets(stack: Stack, count: int) -> AsyncIterator[list[Pair]]:
    """Open connections that say nothing."""
    opened = [await connect(stack) for _ in range(count)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def speak(stack: Stack, *parts: bytes, until: bytes = b"", seconds: float = 10) -> bytes:
    """Send parts one after the other, and read until the end, or until some bytes came."""
    reader, writer = await connect(stack)
    raw = b""
    try:
        async with asyncio.timeout(seconds):
            for part in parts:
                writer.write(part)
                await writer.drain()
            while not until or until not in raw:
                chunk = await reader.read(65_536)
                if not chunk:
                    break
                raw += chunk
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return raw


async def test_idle_sockets_keep_nobody_out(stack: Stack) -> None:
    """Hundreds of sockets that send nothing leave room for clients, and for the database."""
    await stack.create(POSTS, "posts")
    token = stack.token()
    await stack.stop("gateway")
    stack.launch("gateway")
    psutil.Process(stack.child("gateway").pid).rlimit(psutil.RLIMIT_NOFILE, (FILES, FILES))
    await stack.ready("gateway")
    process = psutil.Process(stack.child("gateway").pid)
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (FILES, FILES)
    async with sockets(stack, IDLE) as idle:
        await idle[0][0].read()  # the oldest was closed
        async with stack.stream("posts", token=token) as client:
            await client.connected()
            await stack.sql("INSERT INTO posts VALUES (1)")
            await client.next_message()
            async with httpx.AsyncClient(trust_env=False) as http:
                for _ in range(20):
                    assert (await http.get(f"{stack.gateway_url}/readyz")).status_code == 200
            assert process.num_fds() < FILES - 50


async def test_sockets_that_have_asked_are_idle_again(start_stack: Any) -> None:
    """A socket kept open after an answer counts as idle, and an open stream never does."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_MAX_CONNECTIONS": "300"})
    await stack.create(POSTS, "posts")
    async with stack.stream("posts", token=stack.token()) as client:
        await client.connected()
        async with sockets(stack, 1_200) as kept:
            for reader, writer in kept:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await reader.readuntil(b'{"status":"ok"}')
            fds = psutil.Process(stack.child("gateway").pid).num_fds()
            assert fds < 500
        await stack.sql("INSERT INTO posts VALUES (1)")
        await client.next_message()


@pytest.mark.parametrize("path", ["/healthz", "/api/realtime?tables=posts"])
async def test_http_1_0_has_no_chunks(stack: Stack, path: str) -> None:
    """A client of HTTP/1.0 knows no chunked encoding: its answer ends with the connection."""
    await stack.create(POSTS, "posts")
    head = f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {stack.token()}\r\n\r\n".encode()
    until = b"\n\n" if "realtime" in path else b""
    raw = await speak(stack, head, until=until)
    start, _, body = raw.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in start.lower()
    assert b"connection: close" in start.lower()
    if "realtime" in path:
        assert body.startswith(b"event: connected\nid: ")
    else:
        assert json.loads(body) == {"status": "ok"}


async def test_requests_sent_ahead_are_answered(stack: Stack) -> None:
    """Requests that are sent before the last one is answered are answered in turn."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    raw = await speak(stack, request * 4 + last)
    assert raw.count(b"HTTP/1.1 200 ") == 5
    assert raw.count(b'{"status":"ok"}') == 5


async def test_a_stream_may_be_asked_for_ahead(stack: Stack) -> None:
    """A stream behind another request opens once that is answered, and ends with its client."""
    await stack.create(POSTS, "posts")
    head = f"GET /api/realtime?tables=posts&token={stack.token()} HTTP/1.1\r\nHost: x\r\n\r\n"
    raw = await speak(
        stack, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + head.encode(), until=b"connected"
    )
    assert b'{"status":"ok"}' in raw
    assert b"event: connected" in raw
    await no_streams(stack)


async def test_nothing_follows_a_stream(stack: Stack) -> None:
    """A request behind a stream can never be answered: the connection ends."""
    await stack.create(POSTS, "posts")
    head = f"GET /api/realtime?tables=posts&token={stack.token()} HTTP/1.1\r\nHost: x\r\n\r\n"
    again = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert (await speak(stack, head.encode() + again, seconds=5)).count(b"HTTP/1.1") <= 1
    await no_streams(stack)


async def no_streams(stack: Stack) -> None:
    """Wait until no stream is open."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(10):
        while True:
            text = (await http.get(f"{stack.gateway_url}/metrics")).text
            if "\nayb_streams_open 0.0\n" in text:
                return
            await asyncio.sleep(0.1)
