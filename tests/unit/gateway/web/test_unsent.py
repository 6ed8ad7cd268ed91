"""Progress of a slow peer, on a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from gateway.web.idle_connections import IdleConnections
from gateway.web.protocol import StreamProtocol
from gateway.web.unsent import unsent_bytes


async def test_every_byte_that_a_slow_peer_reads_is_seen() -> None:
    """A peer with a small window that reads a little makes progress, though the server's own buffer
    does not move.
    """
    accepted: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    class Sender(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            accepted.set_result(transport)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sender, "127.0.0.1", 0)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        await loop.sock_connect(peer, server.sockets[0].getsockname())
        async with asyncio.timeout(20):
            transport = await accepted
            transport.write(b"x" * 8_000_000)
            before = unsent_bytes(transport)
            assert before > transport.get_write_buffer_size()
            read = 0
            while unsent_bytes(transport) >= before or read < 50_000:
                read += len(await loop.sock_recv(peer, 4096))
                await asyncio.sleep(0)
        assert read < 1_000_000
        transport.abort()
    server.close()
    await server.wait_closed()


async def test_a_stream_learns_how_much_its_peer_has_not_taken() -> None:
    """Over the server's own protocol: a peer that reads nothing, then something."""
    measured: asyncio.Future[Callable[[], int]] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 8_000_000, "more_body": True})
        measured.set_result(scope["ayb.unsent"])
        while (await receive())["type"] != "http.disconnect":
            pass

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: StreamProtocol(
            config=config,
            server_state=ServerState(),
            app_state={},
            idle=IdleConnections(most_connections=10),
        ),
        "127.0.0.1",
        0,
    )
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET /api/realtime HTTP/1.1\r\nHost: x\r\n\r\n")
        unsent = await measured
        before = unsent()
        assert before > 100_000
        while unsent() >= before:
            await reader.read(65_536)
        writer.transport.abort()
        await asyncio.sleep(0.05)
    server.close()
    await server.wait_closed()
