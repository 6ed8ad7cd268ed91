"""Fixtures for whole stacks of real processes."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from devstack.servers import PostgresServer, ValkeyServer, free_port
from tests.support.databases import Database
from tests.support.stack import PROJECT, Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
    from pathlib import Path

    StartStack = Callable[..., Awaitable[Stack]]

_TOKEN = re.compile(r"eyJ[\w-]{10,}\.[\w-]{10,}\.")
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure, so that the logs are printed with it."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture
def own_valkey(server_dir: Path, request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    """The test's own Valkey: the channels of two relays must not meet."""
    folder = server_dir / f"valkey-{abs(hash(request.node.nodeid))}"
    with ValkeyServer(folder, port=free_port()) as server:
        yield server
        if server.is_running:
            server.resume()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def start_stack(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: Database,
    postgres_server: PostgresServer,
    own_valkey: ValkeyServer,
) -> AsyncIterator[StartStack]:
    """Start a stack with settings of the test's own: `await start_stack(gateway={"AYB_...": ...})`.

    Another `database` and `postgres` may be given, and a `directory` with other sources.
    `start=False` leaves relay and gateway down.
    """
    stacks: list[Stack] = []

    async def start(
        *,
        relay: Mapping[str, str] | None = None,
        gateway: Mapping[str, str] | None = None,
        postgres: PostgresServer = postgres_server,
        database: Database = database,
        valkey: ValkeyServer = own_valkey,
        directory: Path = PROJECT,
        start: bool = True,
    ) -> Stack:
        folder = tmp_path / f"stack-{len(stacks)}"
        folder.mkdir()
        stack = Stack(
            folder, database, postgres, valkey,
            relay=relay or {}, gateway=gateway or {}, directory=directory,
        )  # fmt: skip
        stacks.append(stack)
        if start:
            await stack.start("relay")
            await stack.start("gateway")
        return stack

    yield start
    for stack in stacks:
        await stack.close()
    logs = {file.name: file.read_text("utf-8") for stack in stacks for file in _logs(stack)}
    if request.node.stash.get(_failed, False):
        for name, text in logs.items():
            print(f"--- {name}\n{text[-20_000:]}")
    for name, text in logs.items():
        assert not _TOKEN.search(text), f"{name} holds a token"


def _logs(stack: Stack) -> list[Path]:
    return sorted(stack.folder.glob("*.log"))


@pytest.fixture
async def stack(start_stack: StartStack) -> Stack:
    """A relay and a gateway on a database and a Valkey of the test's own, all ready."""
    return await start_stack()
