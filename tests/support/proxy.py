"""A TCP proxy under a test's control: it can reset connections, discard their bytes, and delay them
or let only so many pass a second, as a long or a thin line does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit, urlunsplit

from devstack.ports import HOST
from tests.support.listening import listening

_CHUNK = 65_536
_ON_THE_LINE = 64
"""So many pieces may be under way in one direction of a connection."""


class Proxy:
    """Passes bytes between clients and a server.

    Faults affect only the connections whose client has sent `matching` (Postgres' start-up packet
    holds the application's name), by default all. `looking_at` is called with what clients send.
    """

    def __init__(
        self,
        port: int,
        *,
        matching: bytes = b"",
        looking_at: Callable[[str], object] | None = None,
    ) -> None:
        self._target = port
        self._matching = matching
        self._looking_at = looking_at
        self._listening = listening(self._serve)
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._mute: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._refusing = False
        self._free_at: dict[bool, float] = {}
        self.delay_seconds = 0.0
        """How long bytes take in one direction: half a round trip."""
        self.bytes_a_second: float | None = None
        """What the line carries in each direction, for all connections together."""
        self.port = 0
        self.discarded = 0
        self.carried = 0
        """Bytes that were passed on, in both directions."""

    def lead(self, url: str) -> str:
        """Rewrite a server's URL so that it goes through this proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{HOST}:{self.port}"))

    def cut(self) -> int:
        """Reset the matching connections; return how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            for writer in pair:
                writer.transport.abort()
        return len(pairs)

    def refuse(self) -> None:
        """Reset the matching connections, and every new one at once."""
        self._refusing = True
        self.cut()

    def discard(self) -> None:
        """From now on drop what matching connections carry, in both directions, also new ones."""
        self._passing.clear()

    def discard_present(self) -> None:
        """Drop what the matching connections of this moment carry; new ones are served."""
        self._mute |= self._pairs

    def heal(self) -> None:
        """Serve connections again; those that lost bytes are reset, as by a real peer."""
        self._refusing = False
        if not self._passing.is_set():
            self._passing.set()
            self.cut()

    async def __aenter__(self) -> Proxy:
        self.port = await self._listening.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listening.__aexit__(None, None, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _connected(self._target) as (far_reader, far_writer):
            pair = (writer, far_writer)
            try:
                await asyncio.gather(
                    self._pass(reader, far_writer, pair, is_client=True),
                    self._pass(far_reader, writer, pair),
                )
            finally:
                self._pairs.discard(pair)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        is_client: bool = False,
    ) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_ON_THE_LINE)
        carrying = asyncio.create_task(self._carry(line, writer, pair, is_request=is_client))
        try:
            while data := await reader.read(_CHUNK):
                if is_client and self._looking_at is not None:
                    self._looking_at(data.decode(errors="replace"))
                if is_client and pair not in self._pairs and self._matching in data:
                    self._pairs.add(pair)
                if pair in self._pairs and self._refusing:
                    self.cut()
                await line.put((time.monotonic() + self.delay_seconds, data))
            await line.put((time.monotonic() + self.delay_seconds, b""))
            await carrying
        except OSError:
            pass
        finally:
            carrying.cancel()
            if not self._is_mute(pair):
                writer.close()

    async def _carry(
        self,
        line: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        is_request: bool,
    ) -> None:
        """Write what is on the line when it has arrived; b"" is the end."""
        with contextlib.suppress(OSError):
            while True:
                due, data = await line.get()
                if not data:
                    return
                if self.bytes_a_second is not None:
                    seconds = len(data) / self.bytes_a_second
                    sent = max(self._free_at.get(is_request, 0.0), due - self.delay_seconds)
                    self._free_at[is_request] = sent + seconds
                    due = self._free_at[is_request] + self.delay_seconds
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if self._is_mute(pair):
                    self.discarded += len(data)
                    continue
                self.carried += len(data)
                writer.write(data)
                await writer.drain()

    def _is_mute(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> bool:
        return pair in self._mute or (pair in self._pairs and not self._passing.is_set())


@contextlib.asynccontextmanager
async def _connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield reader, writer
    finally:
        writer.close()
