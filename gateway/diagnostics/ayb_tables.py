"""Whether the gateway's login can read the tables of AYB that its settings need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.postgres import unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

_SQL: Final = queries("gateway.diagnostics")

TABLES_OF_API_KEYS: Final = ("_ayb_api_keys", "_ayb_users")


async def check_ayb_tables(
    pool: asyncpg.Pool, setting: str, tables: Sequence[str] = TABLES_OF_API_KEYS
) -> list[str]:
    """Return a line for each table that a setting needs: whether it can be read, and what to do.

    Raises `DatabaseUnavailableError`.
    """
    with unavailable_as_ours():
        rows = await pool.fetch(_SQL["ayb_tables"], list(tables))
    found = []
    for row in rows:
        name, login = row["name"], row["login"]
        if row["is_missing"]:
            what = "is missing: it belongs to AYB, which makes it in the schema public"
        elif not row["is_usable"]:
            what = f'cannot be read: GRANT USAGE ON SCHEMA public TO "{login}"'
        elif not row["is_readable"]:
            what = f'cannot be read: GRANT SELECT ON public.{name} TO "{login}"'
        elif row["is_filtered"]:
            what = (
                "has Row-Level Security, which hides rows from the gateway: "
                f'CREATE POLICY ayb_gateway ON public.{name} FOR SELECT TO "{login}" USING (true)'
            )
        else:
            found.append(f"{name}: ok: can be read, as {setting} needs")
            continue
        found.append(f"{name}: error: {setting} needs this table, which {what}")
    return found
