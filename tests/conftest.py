"""Real servers for the tests: one Postgres and one Valkey per session, one database per test."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from devstack.servers import PostgresServer, ValkeyServer, free_port
from tests.support.databases import TEMPLATE, Database, make_template, open_connection
from tests.support.requirements import Requirements
from tests.support.servers import new_postgres

pytest_plugins = [
    "tests.support.arena_fixtures",
    "tests.support.browser_fixtures",
    "tests.support.containers",
    "tests.support.nginx",
    "tests.support.stack_fixtures",
]

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts() -> None:
    """Let the tests' processes end by SIGINT, also where a shell runs pytest in the background.

    Such a shell has SIGINT ignored, which every child inherits and rightly respects.
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
    """The name of the database that the tests' databases are copies of."""
    asyncio.run(make_template(postgres_server))
    return TEMPLATE


@pytest.fixture
async def database(
    postgres_server: PostgresServer, database_template: str
) -> AsyncIterator[Database]:
    """A fresh copy of the template, dropped afterwards with its remaining connections."""
    name = f"test_{next(_numbers)}"
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {database_template}")
    yield Database.on(postgres_server, name)
    if not postgres_server.is_running:  # a test that ended it and failed
        postgres_server.start()
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
