"""Real servers for the tests: one Postgres and one Valkey a session, one database a test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import asyncpg
import pytest

from devstack.servers import PostgresServer, ValkeyServer, free_port
from relay.schema.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

pytest_plugins = ["tests.support.stack_fixtures"]

ROLES_SQL = Path(__file__).parents[1] / "docs/sql/roles.sql"
TEMPLATE = "ayb_template"

POSTGRES_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "wal_level": "replica",
    "max_wal_senders": "8",
    "hot_standby": "on",
    "max_prepared_transactions": "10",
}


def new_postgres(folder: Path, settings: Mapping[str, str] = POSTGRES_SETTINGS) -> PostgresServer:
    """Set up a server: the wheel's, or of the version whose programs AYB_TEST_POSTGRES names."""
    programs = os.environ.get("AYB_TEST_POSTGRES")
    return PostgresServer(
        folder,
        port=free_port(),
        settings=settings,
        programs=Path(programs) if programs else None,
    )


def copy_server(primary: PostgresServer, folder: Path) -> None:
    """Make the data directory of a standby of a running server."""
    folder.mkdir(mode=0o700)
    owner = primary.data_dir.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    # The wheel's pg_basebackup copies older servers too, and not every build has its own.
    wheel = PostgresServer(primary.data_dir, port=primary.port)
    wheel.run_program(
        "pg_basebackup", "-D", folder, "-d", primary.dsn(), "-R", "-X", "stream", "-c", "fast"
    )
    # What -R writes down names parameters that older servers do not know.
    with (folder / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.write(f"primary_conninfo = '{primary.dsn()}'\n")


@contextlib.asynccontextmanager
async def open_connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection and close it, whatever happens."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        try:
            await connection.close(timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            connection.terminate()  # the test has taken the server away


@dataclass(frozen=True)
class Database:
    """A database of one test, with the outbox's schema, and the URLs of its three logins."""

    name: str
    dsn: str
    relay_dsn: str
    gateway_dsn: str

    @contextlib.asynccontextmanager
    async def connect(self, dsn: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Open a connection, as superuser unless another URL is given."""
        async with open_connection(dsn or self.dsn) as connection:
            yield connection

    async def execute(self, sql: str, *arguments: Any) -> None:
        """Run SQL as superuser: several statements, or one with arguments."""
        async with self.connect() as connection:
            await connection.execute(sql, *arguments)


class Requirements:
    """What a test needs beside Python: it is skipped without, or fails where all is required."""

    def program(self, *names: str, package: str) -> Path:
        """Find a program under one of its names; `package` is what apt would install."""
        found = next((path for name in names if (path := shutil.which(name))), None)
        if found is None:
            self._refuse(f"{names[0]} is not installed (apt-get install {package})")
        return Path(found)

    def that(self, fact: object, reason: str) -> None:
        """Insist on a fact; `reason` says what is missing."""
        if not fact:
            self._refuse(reason)

    def _refuse(self, reason: str) -> NoReturn:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"REQUIRE_ALL=1, but {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts() -> None:
    """Let processes of the tests end by SIGINT, also where a shell started these in the background.

    Such a shell has SIGINT ignored, which every child would inherit, and rightly respect.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def require() -> Requirements:
    """Ask for programs that cannot come from a Python package."""
    return Requirements()


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A short path for the servers' data, open to the user that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="ayb-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_dir: Path) -> Iterator[PostgresServer]:
    """The Postgres of the session."""
    with new_postgres(server_dir / "pg") as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server(server_dir: Path) -> Iterator[ValkeyServer]:
    """The Valkey of the session. Channels are not namespaced: one relay at a time."""
    with ValkeyServer(server_dir / "valkey", port=free_port()) as server:
        yield server


@pytest.fixture(scope="session")
def database_template(postgres_server: PostgresServer) -> str:
    """Make the database that those of the tests are copies of; return its name."""
    asyncio.run(make_template(postgres_server))
    return TEMPLATE


async def make_template(server: PostgresServer, name: str = TEMPLATE) -> None:
    """Make a database with the roles, their grants and the migrations applied by the relay."""
    async with open_connection(server.dsn()) as admin:
        await admin.execute(f'CREATE DATABASE "{name}"')
    async with open_connection(server.dsn(name)) as admin:
        await admin.execute(ROLES_SQL.read_text(encoding="utf-8"))
    async with open_connection(server.dsn(name, user="ayb_relay")) as relay:
        await migrate(relay)


_numbers = itertools.count(1)


@pytest.fixture
async def database(
    postgres_server: PostgresServer, database_template: str
) -> AsyncIterator[Database]:
    """A fresh copy of the template, dropped afterwards with whatever is still connected to it."""
    name = f"test_{next(_numbers)}"
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {database_template}")
    yield Database(
        name=name,
        dsn=postgres_server.dsn(name),
        relay_dsn=postgres_server.dsn(name, user="ayb_relay"),
        gateway_dsn=postgres_server.dsn(name, user="ayb_gateway"),
    )
    if not postgres_server.is_running:  # a test that ended it and failed
        postgres_server.start()
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
