"""Relay and gateways as real processes, on real servers, for one test."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from argon2 import PasswordHasher
from jose import jwt

from devstack.demo import uncaptured
from devstack.process import Child
from devstack.servers import PostgresServer, ValkeyServer, free_port
from tests.support.sse_client import SseClient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg

    from tests.support.databases import Database

PROJECT = Path(__file__).parents[2]
JWT_SECRET = "a secret of the tests, of at least 32 characters"
READY_SECONDS = 30.0

RELAY_SETTINGS = {
    "AYB_RELAY_SCAN_SECONDS": "0.1",
    # The session's Postgres allows prepared transactions, which would turn NOTIFY off.
    "AYB_RELAY_NOTIFY": "on",
}
GATEWAY_SETTINGS = {
    "AYB_AUTH_LOGIN_ENABLED": "true",
    "AYB_REALTIME_VERIFY": "1.0",
    "AYB_REALTIME_DRAIN_DELAY_SECONDS": "0",
    "AYB_REALTIME_DRAIN_SECONDS": "1",
}


class Stack:
    """A relay and one or more gateways on a database and a Valkey, started and stopped by name.

    The names are `postgres`, `valkey`, `relay`, `gateway`, and those given to `add_gateway` and
    `add_relay`. Parts run from the sources in `directory`, by default those under test.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        postgres: PostgresServer,
        valkey: ValkeyServer,
        *,
        relay: Mapping[str, str],
        gateway: Mapping[str, str],
        directory: Path = PROJECT,
    ) -> None:
        self.folder = folder
        self.database = database
        self.postgres = postgres
        self.valkey = valkey
        self._common = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AYB_")},
            "AYB_REDIS_URL": valkey.url,
            "AYB_LOG_LEVEL": "debug",
            "PYTHONUNBUFFERED": "1",
        }
        self._gateway_settings = dict(gateway)
        self._relay_settings = {
            "AYB_DATABASE_URL": database.relay_dsn,
            **RELAY_SETTINGS,
            **relay,
        }
        self._programs: dict[str, tuple[Path, Sequence[str]]] = {}
        self._ports: dict[str, int] = {}
        self._environments: dict[str, dict[str, str]] = {}
        self._children: dict[str, Child] = {}
        self._add_relay("relay", {}, directory)
        self._add_gateway("gateway", {}, directory)

    # -- parts -------------------------------------------------------------------------------

    @property
    def gateway_url(self) -> str:
        """The URL of the first gateway."""
        return self.url("gateway")

    def url(self, name: str) -> str:
        """The URL of a gateway, or of the relay's health and metrics."""
        return f"http://127.0.0.1:{self._ports[name]}"

    def child(self, name: str) -> Child:
        """The process of a part, running or ended."""
        return self._children[name]

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment that a part is started with."""
        return dict(self._environments[name])

    def log(self, name: str) -> str:
        """Everything that a part has logged, over all its starts."""
        return self._log_file(name).read_text(encoding="utf-8", errors="replace")

    async def add_gateway(self, name: str, *, directory: Path = PROJECT, **settings: str) -> str:
        """Start one more gateway; return its URL."""
        self._add_gateway(name, settings, directory)
        await self.start(name)
        return self.url(name)

    def prepare_gateway(self, name: str, **settings: str) -> None:
        """Add one more gateway, to be started or launched later."""
        self._add_gateway(name, settings, PROJECT)

    async def add_relay(self, name: str, *, directory: Path = PROJECT, **settings: str) -> None:
        """Start one more relay, which waits to lead."""
        self._add_relay(name, settings, directory)
        await self.start(name)

    def set(self, name: str, **settings: str) -> None:
        """Change settings of a part for its next start."""
        self._environments[name].update(settings)

    async def start(self, name: str) -> None:
        """Start a part and wait until it reports that it is ready."""
        if server := self._server(name):
            server.start()
            return
        self.launch(name)
        await self.ready(name)

    def launch(self, name: str) -> None:
        """Start the process of a relay or gateway, without waiting until it is ready."""
        directory, command = self._programs[name]
        self._children[name] = Child(
            name,
            [sys.executable, "-m", *command],
            log=self._log_file(name),
            environment=self._environments[name],
            directory=directory,
        )

    async def stop(self, name: str) -> int:
        """Stop a part in an orderly way; return its exit status (0 for servers)."""
        if server := self._server(name):
            await asyncio.to_thread(server.stop)
            return 0
        return await asyncio.to_thread(self._children[name].stop)

    async def kill(self, name: str) -> None:
        """Kill a part with SIGKILL."""
        part = self._server(name) or self._children[name]
        await asyncio.to_thread(part.kill)

    async def restart(self, name: str) -> None:
        """Stop and start a part, on the same port."""
        await self.stop(name)
        await self.start(name)

    def pause(self, name: str) -> None:
        """Freeze a part's process (of Postgres, only the one that accepts connections)."""
        (self._server(name) or self._children[name]).pause()

    def resume(self, name: str) -> None:
        """Resume a frozen part."""
        (self._server(name) or self._children[name]).resume()

    async def ready(self, name: str = "gateway", seconds: float = READY_SECONDS) -> None:
        """Wait until `/readyz` of a gateway or the relay reports ready."""
        async with httpx.AsyncClient(trust_env=False) as http:
            end = time.monotonic() + seconds
            answer = "no answer"
            while time.monotonic() < end:
                child = self._children[name]
                assert child.is_running, f"{name} has ended: {child.output()[-2000:]}"
                try:
                    response = await http.get(f"{self.url(name)}/readyz", timeout=5)
                except httpx.HTTPError as error:
                    answer = repr(error)
                else:
                    if response.status_code == 200:
                        return
                    answer = response.text
                await asyncio.sleep(0.02)
        raise AssertionError(f"{name} is not ready after {seconds} s: {answer}")

    async def close(self) -> None:
        """Stop every process that is left; the servers belong to the fixtures."""
        running = [child for child in self._children.values() if child.is_running]
        await asyncio.gather(*(asyncio.to_thread(child.stop) for child in running))

    # -- data --------------------------------------------------------------------------------

    async def sql(self, sql: str, *arguments: Any) -> None:
        """Run SQL as superuser: several statements, or one with arguments."""
        await self.database.execute(sql, *arguments)

    async def rows(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a query as superuser."""
        async with self.database.connect() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
        return rows

    async def create(self, sql: str, *tables: str) -> None:
        """Run SQL that makes tables, and wait until the relay captures those named."""
        await self.sql(sql)
        await self.captured(*tables)

    async def captured(self, *tables: str, seconds: float = 10.0) -> None:
        """Wait until the relay has installed its triggers on these tables (names as in SQL)."""
        async with self.database.connect() as connection, asyncio.timeout(seconds):
            while await uncaptured(connection, tables):  # noqa: ASYNC110 (another process does it)
                await asyncio.sleep(0.02)

    # -- clients -----------------------------------------------------------------------------

    def token(self, sub: str | None = None, **claims: Any) -> str:
        """Sign a token for a user, by default a new one, valid for an hour."""
        claims = {"sub": sub or str(uuid.uuid4()), "exp": int(time.time()) + 3600, **claims}
        return jwt.encode(claims, JWT_SECRET, algorithm="HS256")

    async def add_user(self, email: str, password: str) -> str:
        """Add a user who can log in, to a table as AYB makes it; return the id."""
        await self.sql("""
            CREATE TABLE IF NOT EXISTS _ayb_users (
                id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                email         text NOT NULL UNIQUE,
                password_hash text NOT NULL,
                created_at    timestamptz NOT NULL DEFAULT now(),
                updated_at    timestamptz NOT NULL DEFAULT now()
            );
            GRANT SELECT ON _ayb_users TO ayb_gateway;
        """)
        rows = await self.rows(
            "INSERT INTO _ayb_users (email, password_hash) VALUES ($1, $2) RETURNING id",
            email,
            PasswordHasher(time_cost=1, memory_cost=1024).hash(password),
        )
        return str(rows[0]["id"])

    async def login(self, email: str, password: str) -> dict[str, Any]:
        """Log in over HTTP; return the body of the response."""
        async with httpx.AsyncClient(trust_env=False) as http:
            response = await http.post(
                f"{self.gateway_url}/api/auth/login", json={"email": email, "password": password}
            )
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def stream(
        self, tables: str, *, token: str | None = None, gateway: str = "gateway", **more: Any
    ) -> SseClient:
        """Return a client of a stream: `async with stack.stream("posts", token=...) as client`."""
        return SseClient(self.url(gateway), token=token, tables=tables, **more)

    # -- inside ------------------------------------------------------------------------------

    def _server(self, name: str) -> PostgresServer | ValkeyServer | None:
        servers: dict[str, PostgresServer | ValkeyServer] = {
            "postgres": self.postgres,
            "valkey": self.valkey,
        }
        return servers.get(name)

    def _log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _add_relay(self, name: str, settings: Mapping[str, str], directory: Path) -> None:
        self._programs[name] = (directory, ("relay", "run"))
        self._add(name, {**self._relay_settings, **settings}, port_setting="AYB_RELAY_PORT")

    def _add_gateway(self, name: str, settings: Mapping[str, str], directory: Path) -> None:
        self._programs[name] = (directory, ("gateway",))
        self._add(
            name,
            {
                "AYB_DATABASE_URL": self.database.gateway_dsn,
                "AYB_READ_DATABASE_URL": self.database.gateway_dsn,
                "AYB_AUTH_JWT_SECRET": JWT_SECRET,
                "AYB_SERVER_HOST": "127.0.0.1",
                **GATEWAY_SETTINGS,
                **self._gateway_settings,
                **settings,
            },
            port_setting="AYB_SERVER_PORT",
        )

    def _add(self, name: str, settings: Mapping[str, str], *, port_setting: str) -> None:
        self._ports[name] = int(settings.get(port_setting) or free_port())
        self._environments[name] = {
            **self._common,
            **settings,
            port_setting: str(self._ports[name]),
        }
