"""One connection, over a real socket and an application that answers as told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import httptools
import pytest
import uvicorn
from starlette.datastructures import Headers
from uvicorn.server import ServerState

from gateway.web import protocol
from gateway.web.idle_connections import IdleConnections
from gateway.web.protocol import (
    MOST_AHEAD,
    MOST_HEAD_BYTES,
    PEER_SECONDS,
    STREAM_PATH,
    StreamProtocol,
    forget_head,
    notice_lost_peers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
STREAM = f"GET {STREAM_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


class Place:
    """A listening socket; paths choose the answer: `/`, the stream, `/wire`, `/parts`, `/abort`."""

    server: asyncio.Server

    def __init__(self) -> None:
        self.idle = IdleConnections(most_connections=1_000)
        self.port = 0
        self.state = ServerState()
        self.disconnected = 0
        self.unsent: Callable[[], int] = lambda: 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.ending = asyncio.Event()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await self.gate.wait()
        length = [(b"content-length", b"2")] if scope["path"] == "/" else []
        Headers(scope=scope)  # it replaces the list in the scope
        is_direct = scope["path"] in (STREAM_PATH, "/wire")
        if is_direct and (wire := scope["ayb.wire"]([])):
            os.write(wire.fd, wire.head)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": length})
        if scope["path"] == STREAM_PATH:
            forget_head(scope)
            await send({"type": "http.response.body", "body": b"live", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnected += 1
        elif scope["path"] == "/wire":
            await send({"type": "http.response.body", "body": b"live", "more_body": True})
            await self.ending.wait()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif scope["path"] == "/parts":
            for part in (b"a", b"", b"bc"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif scope["path"] == "/abort":
            scope["ayb.abort"]()
        elif scope["path"] == "/unsent":
            large = b"a" * 10_000_000
            await send({"type": "http.response.body", "body": large, "more_body": True})
            self.unsent = scope["ayb.unsent"]
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await send({"type": "http.response.body", "body": b"ok", "more_body": False})

    async def speak(self, *parts: bytes, until: bytes | None = None) -> bytes:
        """Send parts, and read to the end, or until some bytes came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        raw = b""
        try:
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    for part in parts:
                        writer.write(part)
                        await writer.drain()
                    while until is None or until not in raw:
                        chunk = await reader.read(65_536)
                        if not chunk:
                            break
                        raw += chunk
        finally:
            writer.transport.abort()
        return raw


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    config = uvicorn.Config(
        place.app, interface="asgi3", log_config=None, access_log=False, lifespan="off"
    )
    config.load()
    state = place.state
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: StreamProtocol(config=config, server_state=state, app_state={}, idle=place.idle),
        "127.0.0.1",
        0,
    )
    place.server = server
    place.port = server.sockets[0].getsockname()[1]
    yield place
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()
    await asyncio.wait_for(server.wait_closed(), 10)
    await asyncio.sleep(0.01)


async def test_requests_in_turn(place: Place) -> None:
    """One after the other, and all at once, are answered in order."""
    assert (await place.speak(REQUEST, LAST)).count(b"\r\n\r\nok") == 2
    assert (await place.speak(REQUEST * MOST_AHEAD + LAST)).count(b"\r\n\r\nok") == MOST_AHEAD + 1


async def test_too_many_requests_ahead(place: Place) -> None:
    """A client that sends requests without end, and reads nothing, is cut off."""
    place.gate.clear()
    raw = await place.speak(REQUEST * 5_000)
    assert raw == b""


async def test_a_stream_ends_with_its_client(place: Place) -> None:
    """Also one that was asked for ahead; and nothing can follow it."""
    assert b"live" in await place.speak(REQUEST + STREAM, until=b"live")
    assert (await place.speak(STREAM + REQUEST)).count(b"HTTP/1.1") <= 1
    await eventually(lambda: place.disconnected == 2)


async def test_nothing_follows_a_stream_whose_head_is_forgotten(place: Place) -> None:
    """A request that comes later ends the connection, and so the stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(STREAM)
    await reader.readuntil(b"live")
    writer.write(REQUEST)
    with contextlib.suppress(ConnectionError):
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 10)
    await eventually(lambda: place.disconnected == 1)
    writer.transport.abort()


async def test_a_stream_keeps_neither_head_nor_parser(place: Place) -> None:
    """What was needed to read its request is not kept as long as it lasts, and it lasts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(STREAM)
    await reader.readuntil(b"live")
    [connection] = place.state.connections
    assert connection.headers == []
    assert connection.url == b""
    assert not isinstance(connection.parser, httptools.HttpRequestParser)
    writer.write(b"\r\n\r\n")  # blank lines between requests mean nothing
    await asyncio.sleep(0.05)
    assert not connection.transport.is_closing()
    writer.transport.abort()


async def test_a_request_after_the_end_of_a_stream(place: Place) -> None:
    """A stream that ends leaves its connection to the next request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    for _ in range(2):
        writer.write(b"GET /wire HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"live\r\n")
        place.ending.set()
        await reader.readuntil(b"0\r\n\r\n")
        place.ending.clear()
    writer.write(LAST)
    assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"ok")
    writer.transport.abort()


async def test_a_body_after_the_head_of_a_stream(place: Place) -> None:
    """The body of a stream's request may come late, and is no next request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(STREAM.replace(b"Host", b"Content-Length: 4\r\nHost"))
    await reader.readuntil(b"live")
    writer.write(b"body")
    await asyncio.sleep(0.05)
    assert place.disconnected == 0
    [connection] = place.state.connections
    assert not connection.transport.is_closing()
    writer.transport.abort()


async def test_a_wire_forgets_its_own_head_alone(place: Place) -> None:
    """A request of which a part came before the wire was opened is answered as it was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(b"GET /wire HTTP/1.1\r\nHost: x\r\n\r\nGET /par")
    await reader.readuntil(b"live\r\n")
    place.ending.set()
    await reader.readuntil(b"0\r\n\r\n")
    writer.write(b"ts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 200")
    writer.transport.abort()


async def test_connections_share_the_keys_of_their_attributes(place: Place) -> None:
    """Each has at most 30 in its dictionary, beyond which CPython gives each keys of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(STREAM)
    await reader.readuntil(b"live")
    [connection] = place.state.connections
    assert 20 < len(vars(connection)) <= 30
    writer.transport.abort()


async def test_http_1_0(place: Place) -> None:
    """An answer without a length has no chunks, and ends with its connection."""
    raw = await place.speak(b"GET /parts HTTP/1.0\r\n\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"abc"
    assert (await place.speak(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\nok")
    chunked = await place.speak(LAST.replace(b"/ ", b"/parts ", 1))
    assert chunked.endswith(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")


async def test_a_head_without_end(place: Place) -> None:
    """It is refused once it is too long, also behind an answered request."""
    endless = b"GET / HTTP/1.1\r\nX: " + b"a" * (MOST_HEAD_BYTES + 1)
    assert (await place.speak(endless)).startswith(b"HTTP/1.1 431 ")
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(REQUEST)
    await reader.readuntil(b"ok")
    writer.write(endless)
    assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    writer.transport.abort()
    place.gate.clear()
    assert await place.speak(REQUEST + endless) == b"", "there is nothing to answer it with"


async def test_a_head_that_never_comes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is closed after a while."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    assert await place.speak() == b""
    assert await place.speak(REQUEST[:10]) == b""


async def test_an_answer_can_be_cut(place: Place) -> None:
    """The application can close the socket of a peer that takes nothing."""
    raw = await place.speak(b"GET /abort HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"0\r\n\r\n" not in raw


async def test_it_is_known_what_a_peer_has_not_taken(place: Place) -> None:
    """The application can see whether a slow peer makes progress."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port, limit=1_000)
    writer.write(b"GET /unsent HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: place.unsent() > 1_000_000)
    before = place.unsent()
    await reader.readexactly(9_000_000)
    await eventually(lambda: place.unsent() < before)
    writer.transport.abort()


async def test_idle_connections_are_known(place: Place) -> None:
    """A connection is idle before its request and after its answer, not during a stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    await idle(place, 1)
    place.gate.clear()
    writer.write(REQUEST)
    await idle(place, 0)
    place.gate.set()
    await reader.readuntil(b"ok")
    await idle(place, 1)
    writer.write(STREAM)
    await reader.readuntil(b"live")
    await idle(place, 0)
    writer.transport.abort()
    await eventually(lambda: place.disconnected == 1)
    assert len(place.idle) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="options of sockets by Linux' names")
@pytest.mark.parametrize("is_inherited", [False, True])
async def test_lost_peers_are_noticed(place: Place, is_inherited: bool) -> None:
    """The kernel looks after each connection, whether or not the listening socket has said so."""
    listening = place.server.sockets[0]
    if is_inherited:
        notice_lost_peers(listening)
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert (await place.speak(REQUEST, until=b"ok")).endswith(b"ok")
    _, writer = await asyncio.open_connection("127.0.0.1", place.port)
    await idle(place, 1)
    [connection] = place.state.connections
    sock = connection.transport.get_extra_info("socket")
    options = [
        sock.getsockopt(socket.IPPROTO_TCP, number)
        for number in (
            socket.TCP_KEEPIDLE,
            socket.TCP_KEEPINTVL,
            socket.TCP_KEEPCNT,
            socket.TCP_USER_TIMEOUT,
        )
    ]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert options == [5, 3, 3, PEER_SECONDS * 1000]
    writer.transport.abort()


async def test_newcomers_find_room(place: Place) -> None:
    """Beyond the bound the longest idle connection is closed."""
    place.idle._most_connections = 2
    first, second = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(2)]
    await idle(place, 2)
    assert (await place.speak(LAST)).endswith(b"ok")
    with contextlib.suppress(ConnectionError):
        assert await first[0].read() == b""
    second[1].write(LAST)
    assert (await second[0].read()).endswith(b"ok")
    first[1].transport.abort()
    second[1].transport.abort()


async def idle(place: Place, count: int) -> None:
    """Wait until so many connections are idle."""
    await eventually(lambda: len(place.idle) == count)


async def eventually(is_so: Callable[[], bool]) -> None:
    """Wait for something that happens on another connection."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 (nothing says when)
            await asyncio.sleep(0.01)
