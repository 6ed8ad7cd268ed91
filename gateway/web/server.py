"""The web server: uvicorn, with our own way to start and to stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn

from gateway.web.idle_connections import IdleConnections
from gateway.web.protocol import StreamProtocol, notice_lost_peers
from gateway.web.proxy_headers import ProxyHeaders
from shared.errors import OperatorError

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

log = structlog.get_logger(__name__)

GRACE_SECONDS: Final = 3


class ListenError(OperatorError):
    """A port cannot be listened on."""


class ManagementServer(uvicorn.Server):
    """A server besides the public one, which leaves signals to it and ends when cancelled.

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
        for server in self.servers:
            for listening in server.sockets:
                notice_lost_peers(listening)

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
    app: Callable[..., Awaitable[None]],
    *,
    host: str,
    port: int,
    forwarded_allow_ips: str,
    most_connections: int,
) -> uvicorn.Config:
    """Configure uvicorn: no access log (it would hold tokens), no lifespan (we have our own)."""
    idle = IdleConnections(most_connections=most_connections)
    options: dict[str, Any] = {
        "proxy_headers": False,  # ours are read in front of the application
        "host": host,
        "port": port,
        "http": functools.partial(StreamProtocol, idle=idle),
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "timeout_keep_alive": 20,
        "backlog": 4096,
    }
    return uvicorn.Config(ProxyHeaders(app, trusted_hosts=forwarded_allow_ips), **options)
