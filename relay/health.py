"""The relay's small HTTP server: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from relay.metrics import RelayMetrics

_REQUEST_SECONDS: Final = 5.0


class Health:
    """What the relay says of itself."""

    def __init__(self, metrics: RelayMetrics) -> None:
        self._metrics = metrics
        self._trouble: str | None = "starting"

    def well(self) -> None:
        """Say that all works."""
        self._trouble = None

    def unwell(self, trouble: str) -> None:
        """Say what does not work."""
        self._trouble = trouble

    @contextlib.asynccontextmanager
    async def serve(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the context is open; gives the port."""
        server = await asyncio.start_server(self._answer, host, port, limit=8192)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(request.split(b" ", 2)[1].partition(b"?")[0]))
                await writer.drain()
        except (OSError, TimeoutError, EOFError, IndexError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _response(self, path: bytes) -> bytes:
        status, kind, body = b"200 OK", b"text/plain; charset=utf-8", b"ok\n"
        if path == b"/metrics":
            kind, body = b"text/plain; version=0.0.4; charset=utf-8", self._metrics.page()
        elif path == b"/readyz":
            if self._trouble is not None:
                status, body = b"503 Service Unavailable", f"{self._trouble}\n".encode()
        elif path != b"/healthz":
            status, body = b"404 Not Found", b"not found\n"
        return (
            b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, kind, len(body), body)
        )
