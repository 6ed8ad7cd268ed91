"""The demo: roles, tables with policies, and two users."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from relay.schema.roles import roles_script
from shared.errors import OperatorError
from shared.sql import queries

if TYPE_CHECKING:
    from asyncpg import Connection

_SQL: Final = queries("devstack")

TABLES: Final = ("posts", "comments")
_ALL_TABLES: Final = (*TABLES, "_ayb_users")
USERS: Final = ("user@example.com", "other@example.com")
PASSWORD: Final = "password"  # noqa: S105 (everybody's, by design)


class DemoError(OperatorError):
    """The demo cannot be installed."""


async def install_demo(connection: Connection, *, is_embedded: bool) -> bool:
    """Create the roles, and the demo if none of its tables exists; return whether it did.

    In a database of somebody else (not `is_embedded`), tables of these names may be any. Raises
    `DemoError` where some of the tables were dropped.
    """
    await connection.execute(roles_script())
    present = {row["name"] for row in await connection.fetch(_SQL["present"], list(_ALL_TABLES))}
    missing = set(_ALL_TABLES) - present
    if present and missing and is_embedded:
        raise DemoError(
            f"the demo's tables are incomplete ({', '.join(sorted(missing))} missing): to start "
            f"afresh, remove .devstack (AYB_DEV_DIR), or drop {', '.join(sorted(present))} too"
        )
    if present:
        return False
    async with connection.transaction():
        await connection.execute(files("devstack").joinpath("sql/demo.sql").read_text("utf-8"))
    return True


async def uncaptured(connection: Connection, tables: tuple[str, ...]) -> list[str]:
    """List those of the tables that have no capture trigger yet."""
    return [row["name"] for row in await connection.fetch(_SQL["uncaptured"], list(tables))]
