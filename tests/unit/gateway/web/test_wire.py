"""Streams that are written to directly, over real sockets and the server's own protocol.

Everything is written twice, to a stream with a wire and to one that goes through the server's
`send`, its slow twin; their clients must get the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from gateway.streams.connection import CloseReason, Connection
from gateway.streams.frame import Frame
from gateway.streams.subscription import Subscription
from gateway.web.idle_connections import IdleConnections
from gateway.web.protocol import StreamProtocol

LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop)]


class Streams:
    """A server whose application makes each request a stream."""

    def __init__(self) -> None:
        self.opened: asyncio.Queue[Connection] = asyncio.Queue()
        self.overflows = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-a", b"b")]
        wire = scope["ayb.wire"](headers) if scope["path"] == "/direct" else None
        self.has_wire = wire is not None
        if wire is None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        connection = Connection(
            send=send,
            spawn=self._spawn,
            on_close=lambda: None,
            on_overflow=self._overflow,
            subscription=Subscription({"public.a": 1}),
            role="r",
            settings=("", "", "", ""),
            user_id="u",
            address="",
            expires_at=None,
            leave=False,
            most_pending_bytes=200_000,
            unsent=scope["ayb.unsent"],
        )
        if wire is not None:
            connection.attach(wire)
        self.opened.put_nowait(connection)
        while (await receive())["type"] != "http.disconnect":
            pass

    def _spawn(self, work: Any, name: str) -> object:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _overflow(self, _: Connection) -> None:
        self.overflows += 1


class Peer:
    """A client with a small window that reads only when it is asked to."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.connection = connection
        self.body = b""
        self._sock = sock
        self.head = b""
        self._raw = b""

    async def read_some(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._feed(self._sock.recv(30_000))

    async def read_until(self, size: int) -> bytes:
        """Read until the body has so many bytes, and return it without its framing."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            while len(self.body) < size:
                self._feed(await loop.sock_recv(self._sock, 65536))
        return self.body

    def _feed(self, data: bytes) -> None:
        """Take in bytes, and take chunks that are complete to the body."""
        self._raw += data
        if not self.head:
            head, end, rest = self._raw.partition(b"\r\n\r\n")
            if not end:
                return
            self.head, self._raw = head, rest
        while True:
            head, end, rest = self._raw.partition(b"\r\n")
            if not end or len(rest) < int(head, 16) + 2:
                return
            size = int(head, 16)
            assert rest[size : size + 2] == b"\r\n"
            self.body, self._raw = self.body + rest[:size], rest[size + 2 :]

    def close(self) -> None:
        self._sock.close()


@contextlib.asynccontextmanager
async def peers(
    *paths: str, version: str = "1.1", more: bytes = b"", own: Sequence[tuple[bytes, bytes]] = ()
) -> AsyncIterator[tuple[Streams, list[Peer]]]:
    """Open a stream for each path; `more` are lines of the request, `own` the server's headers."""
    streams = Streams()
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(
        streams.app, lifespan="off", log_config=None, access_log=False, interface="asgi3"
    )
    config.load()
    state, idle = ServerState(), IdleConnections(most_connections=100)
    state.default_headers = list(own)
    server = await loop.create_server(
        lambda: StreamProtocol(config, state, {}, idle=idle), "127.0.0.1", 0
    )
    found = []
    for path in paths:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        await loop.sock_connect(sock, server.sockets[0].getsockname())
        head = f"GET {path} HTTP/{version}\r\nHost: x\r\n".encode()
        await loop.sock_sendall(sock, head + more + b"\r\n")
        found.append(Peer(sock, await asyncio.wait_for(streams.opened.get(), 10)))
    try:
        yield streams, found
    finally:
        for peer in found:
            peer.close()
        server.close()
        await asyncio.sleep(0.05)


def run(loop: Any, work: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("seed", range(3))
def test_both_ways_give_the_same_bytes(loop: Any, seed: int) -> None:
    """Small and large frames, one by one and several at once, written, sent and staged, to clients
    that read now and then: in order, whole, and within the bound of what may be pending.
    """

    async def work() -> None:
        chance = random.Random(seed)
        async with peers("/direct", "/slow") as (_, (direct, slow)):
            expected = b""
            for n in range(150):
                size = chance.choice([1, 20, 150, 150, 5_000, 40_000])
                frames = [
                    b"%d:" % n + b"x" * size + b"\n\n" for _ in range(chance.choice([1, 1, 3]))
                ]
                if direct.connection.pending_bytes + slow.connection.pending_bytes > 100_000:
                    expected_size = len(expected)
                    await direct.read_until(expected_size)
                    await slow.read_until(expected_size)
                way = chance.choice(["write", "send", "stage"])
                for peer in (direct, slow):
                    if way == "write":
                        peer.connection.write(*frames)
                    for frame in frames if way == "send" else ():
                        peer.connection.send(Frame(frame), 0.0)
                    for frame in frames if way == "stage" else ():
                        peer.connection.stage(Frame(frame))
                    peer.connection.flush()
                expected += b"".join(frames)
                if chance.random() < 0.5:
                    await direct.read_some()
                    await slow.read_some()
                    await asyncio.sleep(0)
            assert await direct.read_until(len(expected)) == expected
            assert await slow.read_until(len(expected)) == expected
            assert direct.connection.is_open
            assert not direct.connection.is_blocked

    run(loop, work())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "more",
    [
        b"",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Expect: 100-continue\r\n",
    ],
)
def test_both_ways_give_the_same_head(loop: Any, more: bytes) -> None:
    """The head, with the server's own headers, comes once, before the first chunk."""

    async def work() -> None:
        own = [(b"date", b"Fri, 27 Nov 2026 03:00:00 GMT"), (b"X-Server", b"x")]
        async with peers("/direct", "/slow", more=more, own=own) as (_, found):
            for peer in found:
                for data in (b"one", b"two"):
                    peer.connection.write(data)
                assert await peer.read_until(6) == b"onetwo"
            direct, slow = found
            assert direct.head.lower() == slow.head.lower()
            assert direct.head.startswith(b"HTTP/1.1 200 OK\r\ndate: Fri, 27 Nov")
            assert (b"close" in direct.head) == (b"close" in more)

    run(loop, work())


@pytest.mark.parametrize("loop", LOOPS)
def test_the_head_waits_for_the_first_chunk(loop: Any) -> None:
    """A client gets both in one piece."""

    async def work() -> None:
        async with peers("/direct") as (_, [peer]):
            await asyncio.sleep(0.05)
            await peer.read_some()
            assert not peer.head
            peer.connection.write(b"one")
            assert await peer.read_until(3) == b"one"

    run(loop, work())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_full_socket_blocks_a_stream_and_bounds_what_is_pending(loop: Any) -> None:
    """The rest of a write is left to the server; what comes later is pending, in order, and past
    the bound it is reported.
    """

    async def work() -> None:
        async with peers("/direct") as (streams, [peer]):
            written = 0
            while not peer.connection.is_blocked:
                peer.connection.write(b"%07d\n" % written * 5_000)
                written += 1
            assert peer.connection.pending_bytes == 0
            while not streams.overflows:
                peer.connection.write(b"%07d\n" % written * 5_000)
                written += 1
            assert 200_000 < peer.connection.pending_bytes <= 240_000
            body = await peer.read_until(written * 40_000)
            assert body == b"".join(b"%07d\n" % n * 5_000 for n in range(written))
            peer.connection.write(b"and on")
            assert (await peer.read_until(len(body) + 6)).endswith(b"and on")

    run(loop, work())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_closed_descriptor_is_never_written_to(loop: Any) -> None:
    """After the connection is gone its number may be another's; a write closes the stream."""

    async def work() -> None:
        async with peers("/direct") as (_, [peer]):
            peer.connection.write(b"hello")
            await peer.read_until(5)
            wire: Any = peer.connection._wire
            number = wire.fd
            peer.close()
            async with asyncio.timeout(10):
                while wire.fd != -1:  # noqa: ASYNC110 (the server says nothing of it)
                    await asyncio.sleep(0.001)
            # The next files get the number that is free now.
            reader, writer = os.pipe()
            ends = [reader, writer]
            while number not in ends:
                ends.append(os.dup(writer))
            peer.connection.write(b"not for others")
            assert peer.connection.close_reason is CloseReason.GONE
            peer.connection.write(b"nor this")
            os.set_blocking(reader, False)
            with pytest.raises(BlockingIOError):
                os.read(reader, 100)
            for end in ends:
                os.close(end)

    run(loop, work())


def test_without_chunks_there_is_no_wire() -> None:
    """An answer in HTTP/1.0 ends with its connection, and goes through the server."""

    async def work() -> None:
        async with peers("/direct", version="1.0") as (streams, _):
            assert not streams.has_wire

    run(uvloop.new_event_loop, work())
