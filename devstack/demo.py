"""The demo: roles, tables with policies, and two users."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from relay.schema.roles import roles_script
from shared.sql import queries

if TYPE_CHECKING:
    from asyncpg import Connection

_SQL: Final = queries("devstack")

TABLES: Final = ("posts", "comments")
USERS: Final = ("user@example.com", "other@example.com")
PASSWORD: Final = "password"  # noqa: S105 (everybody's, by design)


async def install_demo(connection: Connection) -> bool:
    """Create the roles, and the demo if none of its tables exists; return whether it did."""
    await connection.execute(roles_script())
    if await connection.fetchval(_SQL["has_demo"]):
        return False
    async with connection.transaction():
        await connection.execute(files("devstack").joinpath("sql/demo.sql").read_text("utf-8"))
    return True


async def uncaptured(connection: Connection, tables: tuple[str, ...]) -> list[str]:
    """List those of the tables that have no capture trigger yet."""
    return [row["name"] for row in await connection.fetch(_SQL["uncaptured"], list(tables))]
