"""The web server: uvicorn, with our own way to stop, and sockets that notice vanished peers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.streams.connection import WRITE_SECONDS
from shared.errors import OperatorError
from shared.postgres import keep_socket_alive

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

log = structlog.get_logger(__name__)

GRACE_SECONDS: Final = 3
HEAD_SECONDS: Final = 20.0
PEER_SECONDS: Final = WRITE_SECONDS + 10
"""Later than a stream ends that takes nothing, which is named and counted so."""

MOST_HEAD_BYTES: Final = 96 * 1024
"""A query of 48 KiB, a token of 16 KiB, and cookies of other applications."""

_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\ncontent-length: 47\r\nconnection: close\r\n\r\n"
    b'{"code":431,"message":"request head too large"}'
)


class StreamProtocol(HttpToolsProtocol):
    """HTTP/1.1 with bounds that uvicorn leaves open, over a socket that notices a vanished peer.

    The head of a request may take `MOST_HEAD_BYTES` and `HEAD_SECONDS`. A request that is sent
    behind an unanswered one ends the connection: uvicorn would never tell the stream before it that
    its client is gone. `scope["ayb.abort"]` cuts the socket: ASGI has no way to end a response
    whose peer takes nothing. `scope["ayb.unsent"]` returns how many bytes wait for the peer.
    """

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the socket's options."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("peername"):
            keep_socket_alive(sock, unacknowledged_seconds=PEER_SECONDS)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse a head without end."""
        super().data_received(data)
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                if self.cycle is None or self.cycle.response_complete:
                    self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Count what belongs to the head of another request."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Offer to cut the socket."""
        self._end_head()
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        self.scope["ayb.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self.scope["ayb.unsent"] = (  # type: ignore[typeddict-unknown-key]
            self.transport.get_write_buffer_size
        )
        super().on_headers_complete()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _end_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class ListenError(OperatorError):
    """A port cannot be listened on."""


class ManagementServer(uvicorn.Server):
    """A server beside the public one, which leaves signals to it and ends when cancelled.

    `setting` names the port in the error that is raised if it cannot be listened on.
    """

    def __init__(self, config: uvicorn.Config, *, setting: str) -> None:
        super().__init__(config)
        self._setting = setting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; raises `ListenError`."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise ListenError(
                f"cannot listen on {self.config.host}:{self.config.port} ({self._setting}):"
                " the port is in use, or the address is not this machine's"
            ) from None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class Server(ManagementServer):
    """A server that drains on the first SIGTERM or SIGINT, and stops at once on the second."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        setting: str,
        drain: Callable[[Callable[[], None]], Awaitable[None]],
    ) -> None:
        super().__init__(config, setting=setting)
        self._drain = drain
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT, as `uvicorn.Server` does."""
        with uvicorn.Server.capture_signals(self):
            yield

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

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections that are open stay."""
        for server in self.servers:
            server.close()

    async def _stop_when_asked(self) -> None:
        await self._asked.wait()
        await self._drain(self.stop_accepting)
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
