"""A database alone, with our schema and a gateway's pool, for benchmarks of questions."""

from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import asyncpg

from devstack.servers import PostgresServer, free_port
from relay.schema.migrate import migrate
from relay.schema.roles import roles_script
from shared.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@contextlib.asynccontextmanager
async def gateway_database(schema: str) -> AsyncIterator[tuple[asyncpg.Connection, asyncpg.Pool]]:
    """Start a server with these tables; yield a superuser's session and a gateway's pool of one."""
    with _server() as server:
        admin = await asyncpg.connect(server.dsn())
        await admin.execute(roles_script())
        relay = await asyncpg.connect(server.dsn(user="ayb_relay"))
        await migrate(relay)
        await relay.close()
        await admin.execute(schema)
        async with open_pool(
            server.dsn(user="ayb_gateway"),
            application_name="bench",
            most=1,
            settings={"default_transaction_read_only": "on", "jit": "off"},
        ) as pool:
            yield admin, pool
        await admin.close()


@contextlib.contextmanager
def _server() -> Iterator[PostgresServer]:
    with TemporaryDirectory(prefix="ayb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres does not run as root
        with PostgresServer(folder / "pg", port=free_port()) as server:
            yield server
