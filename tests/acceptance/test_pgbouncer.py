"""Behind a real PgBouncer: session mode works, transaction mode is refused with one line."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devstack.servers import PostgresServer
from tests.support.databases import Database
from tests.support.pgbouncer import pgbouncer, through
from tests.support.requirements import Requirements
from tests.support.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.stack_fixtures import StartStack

    Pooled = Callable[..., Database]

TABLE = """
    CREATE TABLE posts (id int PRIMARY KEY, author text);
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON posts USING (author = current_setting('ayb.user_id'));
    GRANT SELECT ON posts TO ayb_authenticated;
"""


@pytest.fixture
def pooled(
    require: Requirements, server_dir: Path, postgres_server: PostgresServer, database: Database
) -> Iterator[Pooled]:
    """Connect to the test's database through a pooler in the given mode."""
    program = require.program("pgbouncer", "/usr/sbin/pgbouncer", package="pgbouncer")
    with ExitStack() as poolers:

        def lead(mode: str, *, size: int = 20) -> Database:
            folder = server_dir / f"pgbouncer-{secrets.token_hex(4)}"
            port = poolers.enter_context(
                pgbouncer(program, folder, postgres_server, mode, size=size)
            )
            return through(database, postgres_server, port)

        yield lead


async def test_session_mode(pooled: Pooled, start_stack: StartStack):
    """In session mode, with PgBouncer's other defaults, everything works."""
    stack = await start_stack(database=pooled("session"))
    await stack.create(TABLE, "posts")
    user = secrets.token_hex(4)
    async with stack.stream("posts", token=stack.token(user)) as client:
        await client.connected()
        for number in range(20):
            await stack.sql(f"INSERT INTO posts VALUES ({number}, '{user}')")
            assert (await client.next_message()).json()["record"]["id"] == number
    for name in ("relay", "gateway"):
        assert "Traceback" not in stack.log(name)


@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize("name", ["relay", "gateway"])
async def test_transaction_mode(pooled: Pooled, start_stack: StartStack, name: str, size: int):
    """Relay and gateway end at once with one line that says what to do, and leave nothing set."""
    stack = await start_stack(database=pooled("transaction", size=size), start=False)
    stack.launch(name)
    assert await asyncio.to_thread(stack.child(name).wait, 30) == 1
    assert "Traceback" not in stack.log(name)
    (line,) = [x for x in stack.log(name).splitlines() if x.startswith(f"{name}: ")]
    assert "pools transactions" in line
    assert "session mode" in line


@pytest.mark.parametrize(
    "command", [["relay", "doctor"], ["relay", "install"], ["gateway", "doctor"]], ids=" ".join
)
async def test_commands_in_transaction_mode(
    pooled: Pooled, start_stack: StartStack, command: list[str]
):
    """The commands refuse it too."""
    stack = await start_stack(database=pooled("transaction"), start=False)
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", *command],
        env=stack.environment(command[0]),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert said.count("pools transactions") == 1
    assert "Traceback" not in said
