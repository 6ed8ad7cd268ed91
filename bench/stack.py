"""A whole stack for a benchmark: servers, relay and gateway as processes, and readers of streams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Self

import asyncpg
from jose import jwt

from devstack.process import Child
from devstack.servers import PostgresServer, ValkeyServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

SECRET: Final = "a secret of a benchmark, which is long enough"  # noqa: S105
_ROLES: Final = Path(__file__).parents[1] / "docs/sql/roles.sql"
_START_SECONDS: Final = 30.0


@dataclass
class BenchStack:
    """Starts everything on free ports, and ends it."""

    schema: str
    """SQL that makes the tables, run as superuser after the roles."""
    environment: dict[str, str] = field(default_factory=dict)
    postgres_settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="ayb-bench-")
        folder = Path(self._folder.name)
        folder.chmod(0o755)
        self.folder = folder
        self.postgres = PostgresServer(
            folder / "pg",
            port=free_port(),
            settings={"max_connections": "200", "shared_buffers": "256MB", **self.postgres_settings},
        )
        self.valkey = ValkeyServer(folder / "valkey", port=free_port())
        self.port = free_port()
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        self.postgres.start()
        self.valkey.start()
        admin = await asyncpg.connect(self.postgres.dsn())
        try:
            await admin.execute(_ROLES.read_text(encoding="utf-8"))
            await admin.execute(self.schema)
        finally:
            await admin.close()
        environment = os.environ | {
            "AYB_DATABASE_URL": self.postgres.dsn(user="ayb_relay"),
            "AYB_READ_DATABASE_URL": self.postgres.dsn(user="ayb_gateway"),
            "AYB_REDIS_URL": self.valkey.url,
            "AYB_AUTH_JWT_SECRET": SECRET,
            "AYB_SERVER_HOST": "127.0.0.1",
            "AYB_SERVER_PORT": str(self.port),
            "AYB_RELAY_PORT": str(free_port()),
            "AYB_REALTIME_MAX_CONNECTIONS_PER_USER": "100000",
            **self.environment,
        }
        for name, arguments in (("relay", ["relay", "run"]), ("gateway", ["gateway"])):
            self._children.append(
                Child(
                    name,
                    [sys.executable, "-m", *arguments],
                    log=self.folder / f"{name}.log",
                    environment=environment,
                    directory=Path(__file__).parents[1],
                )
            )
        await self._until_ready()
        return self

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

    def token(self, user_id: str) -> str:
        """Make a token that lives for an hour."""
        return str(jwt.encode({"sub": user_id, "exp": int(time.time()) + 3600}, SECRET))

    async def _until_ready(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                for child in self._children:
                    if not child.is_running:
                        raise RuntimeError(f"{child.name} ended: {child.output()[-3000:]}")
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._ask_readiness)
                    return
                await asyncio.sleep(0.1)

    def _ask_readiness(self) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:  # noqa: S310
            answer.read()


async def read_stream(
    port: int, path: str, on_data: Callable[[bytes], None], connected: asyncio.Event
) -> None:
    """Read one stream until cancelled, and give each `data:` line of a change to `on_data`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        event = b""
        while True:
            line = await reader.readline()
            if not line:
                raise ConnectionError("the stream ended")
            if line.startswith(b"event: "):
                event = line[7:].strip()
                if event == b"connected":
                    connected.set()
            elif line.startswith(b"data: ") and not event:
                on_data(line[6:])
            elif line == b"\n":
                event = b""
    finally:
        writer.close()
