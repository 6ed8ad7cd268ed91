"""Peers that are one process on a port of ours: Node, and FastAPI in two ways."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self, cast

from redis.asyncio import Redis

from bench.peers.starlette_app import CHANNEL
from devstack.process import Child
from devstack.servers import ValkeyServer, free_port

if TYPE_CHECKING:
    from types import TracebackType

_HERE: Final = Path(__file__).parent
_START_SECONDS: Final = 20


class PeerServer:
    """Starts one process and waits until it listens; `pid` is the process that writes."""

    name: str
    path = "/"
    """Of a stream."""

    def __init__(self) -> None:
        self.port = free_port()

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    async def connect(self) -> None:
        """Connect the publisher."""

    async def publish(self, event: str) -> None:
        """Publish an event."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what was opened for publishing, and what was started besides."""

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._child.pid

    async def __aenter__(self) -> Self:
        self.folder = TemporaryDirectory(prefix="ayb-bench-")
        self._child = Child(
            self.name,
            self.command(),
            log=Path(self.folder.name) / "log",
            directory=_HERE.parents[1],
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._until_listening()
                await self.connect()
        except BaseException:
            self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    async def _until_listening(self) -> None:
        while True:
            if not self._child.is_running:
                raise RuntimeError(f"{self.name} ended: {self._child.output()[-1000:]}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return

    def _stop(self) -> None:
        self.close()
        self._child.stop()
        self.folder.cleanup()


class Node(PeerServer):
    """Node's http module; events come by POST on one connection."""

    name = "Node"

    @staticmethod
    def why_not() -> str | None:
        """Return what is missing, None if nothing is."""
        return None if shutil.which("node") else "node is not installed (apt-get install nodejs)"

    def command(self) -> list[str]:
        """Return the command line."""
        return [shutil.which("node") or "node", str(_HERE / "node_sse.js"), str(self.port)]

    async def connect(self) -> None:
        """Connect the publisher."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def publish(self, event: str) -> None:
        """Publish an event and read the answer."""
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(event)}\r\n\r\n"
        self._writer.write((head + event).encode())
        await self._reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        """Close the publisher's connection."""
        if hasattr(self, "_writer"):
            self._writer.close()


class FastAPIServer(PeerServer):
    """FastAPI on uvicorn, fed by a Redis of its own. `kind` is that of `starlette_app`."""

    path = "/events"

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self.name = {"streaming": "StreamingResponse", "sse": "sse-starlette"}[kind]
        self._data = TemporaryDirectory(prefix="ayb-bench-")
        self._valkey = ValkeyServer(Path(self._data.name) / "valkey", port=free_port())

    @staticmethod
    def why_not(kind: str) -> str | None:
        """Return what is missing, None if nothing is."""
        if kind == "sse" and importlib.util.find_spec("sse_starlette") is None:
            return "sse-starlette is not installed (pip install -r requirements/bench.txt)"
        return None

    def command(self) -> list[str]:
        """Start the Redis, and return the command line."""
        self._valkey.start()
        module = "bench.peers.starlette_app"
        return [sys.executable, "-m", module, self._kind, str(self.port), self._valkey.url]

    async def connect(self) -> None:
        """Connect the publisher, once the server has subscribed."""
        self._redis = cast("Any", Redis.from_url(self._valkey.url))
        while not (await self._redis.pubsub_numsub(CHANNEL))[0][1]:
            await asyncio.sleep(0.02)

    async def publish(self, event: str) -> None:
        """Publish an event."""
        await self._redis.publish(CHANNEL, event)

    def close(self) -> None:
        """Stop the Redis."""
        self._valkey.stop()
        self._data.cleanup()
