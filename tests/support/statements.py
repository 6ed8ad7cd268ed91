"""A way to Postgres that keeps a list of the statements that pass."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from tests.support.listening import listening

if TYPE_CHECKING:
    from types import TracebackType

_SSL_REQUEST: Final = 80877103
_GSS_REQUEST: Final = 80877104


class StatementLog:
    """Passes connections on to a server, and reads what its clients execute there."""

    def __init__(self, dsn: str) -> None:
        self._address = urlsplit(dsn)
        self.executed: list[str] = []
        self._listening = listening(self._carry)
        self._port = 0

    @property
    def dsn(self) -> str:
        """The same database and login, by this way; without TLS, which could not be read."""
        login = self._address.netloc.rpartition("@")[0]
        return self._address._replace(netloc=f"{login}@127.0.0.1:{self._port}").geturl()

    async def __aenter__(self) -> Self:
        self._port = await self._listening.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._listening.__aexit__(kind, error, traceback)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(
            self._address.hostname, self._address.port
        )
        answers = asyncio.create_task(_copy(from_server, writer))
        try:
            await self._read(reader, to_server)
        finally:
            to_server.close()
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        code = _SSL_REQUEST
        while code in (_SSL_REQUEST, _GSS_REQUEST):
            head = await reader.readexactly(8)
            size, code = struct.unpack("!ii", head)
            to_server.write(head + await reader.readexactly(size - 8))
        named: dict[bytes, str] = {}
        while True:
            head = await reader.readexactly(5)
            kind, size = struct.unpack("!ci", head)
            body = await reader.readexactly(size - 4)
            if kind == b"Q":
                self.executed.append(body[:-1].decode())
            elif kind == b"P":
                name, _, rest = body.partition(b"\0")
                named[name] = rest.partition(b"\0")[0].decode()
            elif kind == b"B":
                self.executed.append(named[body.split(b"\0", 2)[1]])
            to_server.write(head + body)
            await to_server.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
