"""The databases of the tests: one template per server, one copy per test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from devstack.servers import PostgresServer
from relay.schema.migrate import migrate

ROLES_SQL = Path(__file__).parents[2] / "relay/schema/roles.sql"
TEMPLATE = "ayb_template"


@contextlib.asynccontextmanager
async def open_connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection and close it, even if the server is gone by then."""
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

    @classmethod
    def on(cls, server: PostgresServer, name: str) -> Database:
        """Return the database `name` of a server."""
        return cls(
            name=name,
            dsn=server.dsn(name),
            relay_dsn=server.dsn(name, user="ayb_relay"),
            gateway_dsn=server.dsn(name, user="ayb_gateway"),
        )

    @contextlib.asynccontextmanager
    async def connect(self, dsn: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Open a connection, as superuser unless another URL is given."""
        async with open_connection(dsn or self.dsn) as connection:
            yield connection

    async def execute(self, sql: str, *arguments: Any) -> None:
        """Run SQL as superuser: several statements, or one with arguments."""
        async with self.connect() as connection:
            await connection.execute(sql, *arguments)


async def make_template(server: PostgresServer, name: str = TEMPLATE, options: str = "") -> None:
    """Create a database with the roles, their grants and the migrations applied by the relay."""
    async with open_connection(server.dsn()) as admin:
        await admin.execute(f'CREATE DATABASE "{name}" {options}')
    async with open_connection(server.dsn(name)) as admin:
        await admin.execute(ROLES_SQL.read_text(encoding="utf-8"))
    async with open_connection(server.dsn(name, user="ayb_relay")) as relay:
        await migrate(relay)
