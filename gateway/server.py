"""The web server: uvicorn, with our own way to stop, and sockets that notice vanished peers."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.postgres import keep_socket_alive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

log = structlog.get_logger(__name__)

GRACE_SECONDS = 3


class StreamProtocol(HttpToolsProtocol):
    """HTTP/1.1 over a socket that notices within seconds that its peer has vanished.

    `scope["ayb.abort"]` cuts the socket: ASGI has no way to end a response whose peer takes
    nothing.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the socket's options."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("peername"):
            keep_socket_alive(sock)

    def on_headers_complete(self) -> None:
        """Offer to cut the socket."""
        self.scope["ayb.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()


class Server(uvicorn.Server):
    """A server that drains on the first SIGTERM or SIGINT, and stops at once on the second."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Take a signal; nothing is re-raised afterwards, so that the exit status is 0."""
        if self._asked.is_set():
            self.should_exit = self.force_exit = True
        self._loop.call_soon_threadsafe(self._asked.set)
        log.info("signal", name=signal.Signals(sig).name)

    async def serve_until_drained(self) -> None:
        """Serve until asked to stop, then drain, then stop."""
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(self._stop_when_asked(), name="drain")
            await self.serve()
            stopping.cancel()

    async def _stop_when_asked(self) -> None:
        await self._asked.wait()
        await self._drain()
        self.should_exit = True


def server_config(
    app: Callable[..., Awaitable[None]], *, host: str, port: int, forwarded_allow_ips: str
) -> uvicorn.Config:
    """Configure uvicorn: no access log (it would hold tokens), no lifespan (we have our own)."""
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "http": StreamProtocol,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "forwarded_allow_ips": forwarded_allow_ips,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "timeout_keep_alive": 20,
        "backlog": 4096,
    }
    return uvicorn.Config(app, **options)
