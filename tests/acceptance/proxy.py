"""A TCP proxy of the test's own, which can let packets vanish without a word."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Proxy:
    """Forwards a port of loopback.

    `discard` swallows everything on the connections there are, both ways, without closing them;
    `only` limits that to connections whose first packet holds these bytes. `restore` cuts those.
    """

    def __init__(self, target: int, *, only: bytes = b"") -> None:
        self._target = target
        self._only = only
        self._pairs: list[_Pair] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for pair in self._pairs:
            pair.cut()

    def discard(self) -> None:
        """Let packets vanish."""
        chosen = [pair for pair in self._pairs if self._only in pair.first]
        assert chosen, "there is no such connection"
        for pair in chosen:
            pair.is_discarding = True

    def restore(self) -> None:
        """Cut the connections whose packets vanish."""
        for pair in self._pairs:
            if pair.is_discarding:
                pair.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(writer)
        self._pairs.append(pair)
        try:
            there_reader, pair.there = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(pair.pump(reader, pair.there, is_first=True))
                group.create_task(pair.pump(there_reader, writer))
        except* OSError:
            pass
        finally:
            pair.cut()
            self._pairs.remove(pair)


class _Pair:
    def __init__(self, here: asyncio.StreamWriter) -> None:
        self.here = here
        self.there: asyncio.StreamWriter | None = None
        self.first = b""
        self.is_discarding = False

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_first: bool = False
    ) -> None:
        while data := await reader.read(65_536):
            if is_first and len(self.first) < 1_000:
                self.first += data
            if not self.is_discarding:
                writer.write(data)
                await writer.drain()
        raise ConnectionResetError

    def cut(self) -> None:
        for writer in (self.here, self.there):
            if writer is not None:
                with contextlib.suppress(RuntimeError):
                    writer.transport.abort()
