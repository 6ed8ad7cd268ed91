"""A whole stack for a benchmark: servers, relay and gateway, and readers of streams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Self, cast

import asyncpg
from jose import jwt

from devstack.process import Child
from devstack.servers import PostgresServer, ValkeyServer, free_port
from relay.schema.roles import roles_script

if TYPE_CHECKING:
    from types import TracebackType

POSTS: Final = """
CREATE TABLE public.posts (
    id bigint PRIMARY KEY,
    author_id uuid NOT NULL,
    title text NOT NULL,
    published boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.posts TO ayb_authenticated;
CREATE POLICY readable ON public.posts FOR SELECT TO ayb_authenticated
    USING (published OR author_id = current_setting('ayb.user_id')::uuid)
"""
"""A table of which each client sees the published rows and those of its user."""

USER: Final = "00000000-0000-4000-8000-{:012d}"
"""The `sub` of a user, by number."""

SECRET: Final = "a secret of a benchmark, which is long enough"  # noqa: S105
_START_SECONDS: Final = 30.0


def user_id(number: int) -> str:
    """Return the `sub` of a user, by number: a UUID."""
    return f"00000000-0000-4000-8000-{number:012d}"


@dataclass
class BenchStack:
    """Starts everything on free ports, and stops it."""

    schema: str
    """SQL that makes the tables, run as superuser after the roles."""
    environment: dict[str, str] = field(default_factory=dict)
    postgres_settings: dict[str, str] = field(default_factory=dict)
    source: Path = field(default=Path(__file__).parents[2])
    """The checkout whose relay and gateways are started."""
    gateways: int = 1
    programs: Path | None = None
    """The folder of another Postgres' programs."""

    def __post_init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="ayb-bench-")
        folder = Path(self._folder.name)
        folder.chmod(0o755)
        self.folder = folder
        self.postgres = PostgresServer(
            folder / "pg",
            port=free_port(),
            settings={
                "max_connections": "200",
                "shared_buffers": "256MB",
                **self.postgres_settings,
            },
            programs=self.programs,
        )
        self.valkey = ValkeyServer(folder / "valkey", port=free_port())
        self.ports = [free_port() for _ in range(self.gateways)]
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        self.postgres.start()
        self.valkey.start()
        admin = await asyncpg.connect(self.postgres.dsn())
        try:
            await admin.execute(roles_script())
            await admin.execute(self.schema)
        finally:
            await admin.close()
        self._environment = os.environ | {
            "AYB_DATABASE_URL": self.postgres.dsn(user="ayb_relay"),
            "AYB_READ_DATABASE_URL": self.postgres.dsn(user="ayb_gateway"),
            "AYB_REDIS_URL": self.valkey.url,
            "AYB_AUTH_JWT_SECRET": SECRET,
            "AYB_SERVER_HOST": "127.0.0.1",
            "AYB_RELAY_PORT": str(free_port()),
            "AYB_REALTIME_MAX_CONNECTIONS_PER_USER": "100000",
            "AYB_REALTIME_DRAIN_DELAY_SECONDS": "0",
            "AYB_REALTIME_DRAIN_SECONDS": "0.1",
            **self.environment,
        }
        self._children.append(self._spawn("relay", "relay", "run"))
        self._children += [
            self._spawn(f"gateway-{number}", "gateway", port=port)
            for number, port in enumerate(self.ports)
        ]
        await self._until_ready()
        return self

    async def restart_gateway(self) -> None:
        """Stop the first gateway, start another on its port, and wait until it is ready."""
        await asyncio.to_thread(self._children[1].stop)
        self._children[1] = self._spawn("gateway-0", "gateway", port=self.port)
        await self._until_ready()

    def _spawn(self, name: str, *arguments: str, port: int = 0) -> Child:
        return Child(
            name,
            [sys.executable, "-m", *arguments],
            log=self.folder / f"{name}.log",
            environment=self._environment | {"AYB_SERVER_PORT": str(port)},
            directory=self.source,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in reversed(self._children):
            child.stop()
        if error is not None:
            for child in self._children:
                print(f"--- {child.name}\n{child.output()[-3000:]}", file=sys.stderr)
        self.valkey.stop()
        self.postgres.stop()
        self._folder.cleanup()

    @property
    def port(self) -> int:
        """The port of the first gateway."""
        return self.ports[0]

    @property
    def relay_pid(self) -> int:
        """The process ID of the relay."""
        return self._children[0].pid

    @property
    def gateway_pids(self) -> list[int]:
        """The process IDs of the gateways, in the order of `ports`."""
        return [child.pid for child in self._children[1:]]

    @property
    def gateway_pid(self) -> int:
        """The process ID of the first gateway."""
        return self.gateway_pids[0]

    def tokens(self, users: int) -> list[str]:
        """Make a token for each of so many users, with an address and a tenant."""
        expires = int(time.time()) + 3600
        return [
            str(
                jwt.encode(
                    {
                        "sub": USER.format(number),
                        "email": f"user{number}@example.com",
                        "role": "user",
                        "exp": expires,
                    },
                    SECRET,
                )
            )
            for number in range(users)
        ]

    def token(self, user_id: str) -> str:
        """Make a token that is valid for an hour."""
        return str(jwt.encode({"sub": user_id, "exp": int(time.time()) + 3600}, SECRET))

    async def _until_ready(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                for child in self._children:
                    if not child.is_running:
                        raise RuntimeError(f"{child.name} ended: {child.output()[-3000:]}")
                with contextlib.suppress(OSError):
                    for port in self.ports:
                        await asyncio.to_thread(_ask_readiness, port)
                    return
                await asyncio.sleep(0.1)


def _ask_readiness(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
        answer.read()


class StreamReader(asyncio.Protocol):
    """Reads one stream. It records which bytes came when; `changes` parses them later.

    A hundred of these share a core with what they measure, so each must cost next to nothing.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._pieces: list[tuple[float, bytes]] = []
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frames = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Record the bytes and their time."""
        self._pieces.append((time.perf_counter(), data))
        self.frames += data.count(b'data: {"action"')
        if not self.connected.done() and b"event: connected" in data:
            self.connected.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail `connected` if the stream never opened."""
        if not self.connected.done():
            self.connected.set_exception(ConnectionError(f"no stream: {self._pieces} {exc}"))

    def changes(self) -> list[tuple[float, bytes]]:
        """Return the data of all changes so far, with the times at which they were complete."""
        found = []
        rest = b""
        for at, piece in self._pieces:
            *lines, rest = (rest + piece).split(b"\n")
            found += [(at, line[6:]) for line in lines if line.startswith(b'data: {"action"')]
        return found

    def last_event_id(self) -> str:
        """Return the position that this stream has reached; empty before the first."""
        text = b"".join(piece for _, piece in self._pieces)
        found = re.findall(rb"^id: ?(\S+)", text, re.MULTILINE)
        return found[-1].decode() if found else ""

    def forget(self) -> None:
        """Drop everything read so far."""
        self._pieces.clear()
        self.frames = 0

    def close(self) -> None:
        """Close the stream."""
        self._transport.abort()


async def open_stream(port: int, path: str) -> StreamReader:
    """Open a stream and wait until it is live."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: StreamReader(path), "127.0.0.1", port)
    await reader.connected
    return reader
