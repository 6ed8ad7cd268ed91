"""The relay's probes and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shared.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

    from relay.metrics import RelayMetrics

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Whether this relay is ready, and what an operator should know besides.

    `/readyz` answers 200 or 503. Its first line is `ok` or the reason; a line `part: text` for each
    note follows. Notes do not make a relay unready.
    """

    def __init__(self, metrics: RelayMetrics) -> None:
        self._metrics = metrics
        self._reason: str | None = "starting"
        self._notes: dict[str, str] = {}

    def ready(self) -> None:
        """Declare the relay ready."""
        self._reason = None

    def not_ready(self, reason: str) -> None:
        """Declare the relay not ready."""
        self._reason = reason

    def note(self, part: str, text: str | None) -> None:
        """Show a note about one part, or remove it."""
        if text is None:
            self._notes.pop(part, None)
        else:
            self._notes[part] = text

    @property
    def page(self) -> tuple[int, str]:
        """The status and body of `/readyz`."""
        lines = [self._reason or "ok", *(f"{part}: {text}" for part, text in self._notes.items())]
        return (200 if self._reason is None else 503), "".join(f"{line}\n" for line in lines)

    @contextlib.asynccontextmanager
    async def serve(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the context is open; yields the port.

        Raises `OperatorError` if the address is not available.
        """
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            raise OperatorError(
                f"cannot listen on {host}, port {port}: {error}; "
                "set AYB_RELAY_HOST and AYB_RELAY_PORT"
            ) from None
        server = _Server(
            uvicorn.Config(
                self._app(),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
            )
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listening]), name="health")
            try:
                yield listening.getsockname()[1]
            finally:
                server.should_exit = True

    def _app(self) -> Starlette:
        async def healthz(_: Request) -> Response:
            return PlainTextResponse("ok\n")

        async def readyz(_: Request) -> Response:
            status, body = self.page
            return PlainTextResponse(body, status)

        async def metrics(_: Request) -> Response:
            return Response(self._metrics.page(), media_type=_METRICS_TYPE)

        return Starlette(
            routes=[
                Route("/healthz", healthz),
                Route("/readyz", readyz),
                Route("/metrics", metrics),
            ]
        )


class _Server(uvicorn.Server):
    """A server that leaves signals to the process it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield
