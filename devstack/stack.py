"""Everything on one machine: what is started, in which order, watched, and stopped."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from devstack.demo import TABLES, install_demo, uncaptured
from devstack.demo_server import DemoServer
from devstack.process import Child
from devstack.servers import PostgresServer, ValkeyServer, check_port, free_port
from devstack.settings import jwt_secret, open_data_dir
from shared.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.settings import DevSettings

_PROJECT: Final = Path(__file__).parents[1]
_READY_SECONDS: Final = 60.0
_TURN_SECONDS: Final = 0.05


class Stack:
    """Postgres, Valkey, the demo, relay and gateway: started in this order, stopped in reverse."""

    def __init__(self, settings: DevSettings, tell: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._servers: list[PostgresServer | ValkeyServer] = []
        self._children: list[Child] = []
        self._demo: DemoServer | None = None
        self._read: dict[str, int] = {}
        self.psql = 'psql "$AYB_DATABASE_URL"'  # which may hold a password
        self.database_url = ""
        self.redis_url = ""
        self.gateway_url = f"http://localhost:{settings.server_port}"

    def start(self) -> None:
        """Start everything, and return when the demo's tables can be streamed."""
        settings = self._settings
        if settings.database_url is not None and not settings.dev_demo:
            raise OperatorError(
                "AYB_DATABASE_URL is set, and the demo would put tables, logins and users with a "
                "known password into that database: set AYB_DEV_DEMO=1 if it may, or unset "
                "AYB_DATABASE_URL for a server of its own"
            )
        self._check_ports()
        folder = open_data_dir(settings)
        relay_url, read_url = self._start_postgres(folder)
        self._start_valkey(folder)
        asyncio.run(self._install_demo())
        common = {
            "AYB_LOG_FORMAT": "console",
            "AYB_AUTH_LOGIN_ENABLED": "true",
            "AYB_CONSOLE_ENABLED": "true",
            "AYB_REALTIME_DRAIN_DELAY_SECONDS": "0",
            "AYB_REALTIME_DRAIN_SECONDS": "1",
            "AYB_SERVER_HOST": "localhost",
            "NO_COLOR": "1",
            **os.environ,
            "AYB_REDIS_URL": self.redis_url,
            "AYB_AUTH_JWT_SECRET": jwt_secret(settings, folder),
            "AYB_SERVER_PORT": str(settings.server_port),
            "AYB_RELAY_PORT": str(settings.relay_port or free_port()),
        }
        self._run(folder, "relay", ["relay", "run"], {**common, "AYB_DATABASE_URL": relay_url})
        asyncio.run(self._wait_until_captured())
        port = settings.server_port
        origins = [f"http://localhost:{port}", f"http://127.0.0.1:{port}", f"http://[::1]:{port}"]
        self._demo = DemoServer(self.database_url, origins=origins)
        addresses = {
            "AYB_CONSOLE_DEMO_URL": self._demo.url,
            "AYB_DATABASE_URL": read_url,
            "AYB_READ_DATABASE_URL": read_url,
        }
        self._run(folder, "gateway", ["gateway"], {**common, **addresses})
        self._wait_until_ready(f"{self.gateway_url}/readyz")

    def watch(self) -> None:
        """Report what relay and gateway print; raise `OperatorError` if a part has ended."""
        for child in self._children:
            self._pass_on(child)
            if not child.is_running:
                raise OperatorError(f"{child.name} has ended (exit status {child.exit_status})")
        for server in self._servers:
            if not server.is_running:
                raise OperatorError(f"{server.name} has ended; its log is {server.log}")

    def stop(self) -> None:
        """Stop what was started, in reverse order."""
        if self._demo is not None:
            self._demo.close()
            self._demo = None
        while self._children:
            child = self._children.pop()
            child.stop()
            self._pass_on(child)
        while self._servers:
            self._servers.pop().stop()

    def _check_ports(self) -> None:
        """Check all ports before anything starts."""
        settings = self._settings
        if settings.database_url is None:
            check_port(
                settings.dev_postgres_port, purpose="Postgres", setting="AYB_DEV_POSTGRES_PORT"
            )
        if settings.redis_url is None:
            check_port(settings.dev_valkey_port, purpose="Valkey", setting="AYB_DEV_VALKEY_PORT")
        if settings.relay_port is not None:
            check_port(settings.relay_port, purpose="the relay", setting="AYB_RELAY_PORT")
        check_port(settings.server_port, purpose="the gateway", setting="AYB_SERVER_PORT")

    def _start_postgres(self, folder: Path) -> tuple[str, str]:
        """Return the URLs for relay and gateway; for a foreign server both are the given one."""
        if self._settings.database_url is not None:
            self.database_url = self._settings.database_url.get_secret_value()
            self._tell("postgres", "using AYB_DATABASE_URL")
            return self.database_url, os.environ.get("AYB_READ_DATABASE_URL", self.database_url)
        server = PostgresServer(folder / "postgres", port=self._settings.dev_postgres_port)
        self._servers.append(server)
        server.start()
        self.database_url = server.dsn()
        self.psql = f"{short_path(server.program('psql'))} {self.database_url}"
        self._tell("postgres", f"127.0.0.1:{server.port}, data in {short_path(server.data_dir)}")
        return server.dsn(user="ayb_relay"), server.dsn(user="ayb_gateway")

    def _start_valkey(self, folder: Path) -> None:
        if self._settings.redis_url is not None:
            self.redis_url = self._settings.redis_url.get_secret_value()
            self._tell("valkey", "using AYB_REDIS_URL")
            return
        server = ValkeyServer(folder / "valkey", port=self._settings.dev_valkey_port)
        self._servers.append(server)
        server.start()
        self.redis_url = server.url
        self._tell("valkey", f"127.0.0.1:{server.port}")

    async def _install_demo(self) -> None:
        try:
            connection = await asyncpg.connect(self.database_url, timeout=10)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise OperatorError(f"Postgres refuses the connection: {error}") from None
        try:
            made = await install_demo(connection, is_embedded=self._settings.database_url is None)
        except asyncpg.PostgresError as error:
            raise OperatorError(f"the demo could not be installed: {error}") from None
        finally:
            await connection.close()
        self._tell("demo", "tables and users made" if made else "tables are there already")

    async def _wait_until_captured(self) -> None:
        connection = await asyncpg.connect(self.database_url)
        try:
            end = time.monotonic() + _READY_SECONDS
            while missing := await uncaptured(connection, TABLES):
                self.watch()
                if time.monotonic() > end:
                    raise OperatorError(f"the relay does not capture {', '.join(missing)}")
                await asyncio.sleep(_TURN_SECONDS)
        finally:
            await connection.close()

    def _wait_until_ready(self, url: str) -> None:
        end = time.monotonic() + _READY_SECONDS
        while not _answers(url):
            self.watch()
            if time.monotonic() > end:
                raise OperatorError(f"{url} does not report that it is ready")
            time.sleep(_TURN_SECONDS)

    def _run(self, folder: Path, name: str, module: list[str], environment: dict[str, str]) -> None:
        log = folder / f"{name}.log"
        log.unlink(missing_ok=True)
        self._children.append(
            Child(
                name,
                [sys.executable, "-m", *module],
                log=log,
                environment=environment,
                directory=_PROJECT,
            )
        )

    def _pass_on(self, child: Child) -> None:
        """Report the whole lines that a child has printed since the last time."""
        with child.log.open("rb") as log:
            log.seek(self._read.get(child.name, 0))
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[child.name] = self._read.get(child.name, 0) + len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self._tell(child.name, line)


def _answers(url: str) -> bool:
    # Loopback needs no proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2):
            return True
    except OSError:  # a refusal, or an answer other than 2xx
        return False


def short_path(path: Path) -> str:
    """Return the shorter of a path and the same path relative to the current folder."""
    return min(str(path), os.path.relpath(path), key=len)
