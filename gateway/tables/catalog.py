"""Which table a name means, and which roles may be used.

Answers are kept for a second, and who asks the same meanwhile waits for the same answer: ten
thousand clients that come back at once cost one query each for what they have in common. Nothing
depends on their freshness, since every event is judged by itself.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from shared.postgres import unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    import asyncpg

    from gateway.tables.names import TableName
    from gateway.visibility.engine import Visibility

T = TypeVar("T")

_FRESH_SECONDS: Final = 1.0
_MOST_ANSWERS: Final = 1_000
_SQL: Final = queries("gateway.tables")


@dataclass(frozen=True, slots=True)
class Table:
    """A captured table."""

    name: str
    """`schema.table`, unquoted."""
    relid: int


class UnknownTableError(LookupError):
    """No captured table has this name; the text is the name."""


class Catalog:
    """Asks the system catalogs through the read pool, at most once a second for each question."""

    def __init__(self, pool: asyncpg.Pool, visibility: Visibility | None) -> None:
        self._pool = pool
        self._visibility = visibility
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._asking: dict[Hashable, asyncio.Lock] = {}

    async def resolve(self, names: Sequence[TableName]) -> list[Table]:
        """Find the tables meant.

        Raises `UnknownTableError` for the first name that means none, or that several schemas have
        while public has not; `DatabaseUnavailableError`.
        """
        return await self._fresh(("resolve", *names), lambda: self._resolve(names))

    async def may_use(self, role: str) -> bool:
        """Tell whether a role may be taken for clients: it exists, and bypasses nothing."""
        return await self._fresh(("role", role), lambda: self._may_use(role))

    async def may_read(self, table: Table, role: str) -> bool:
        """Tell whether a role may read any column of a table."""
        visibility = self._visibility
        if visibility is None:
            return True
        return (
            await self._fresh(
                ("columns", table.relid, role),
                lambda: visibility.readable_columns(table.relid, role),
            )
            != frozenset()
        )

    async def _resolve(self, names: Sequence[TableName]) -> list[Table]:
        with unavailable_as_ours():
            rows = await self._pool.fetch(
                _SQL["resolve"], [name.schema for name in names], [name.table for name in names]
            )
        tables: dict[str, Table] = {}
        for number, name in enumerate(names, 1):
            found = [row for row in rows if row["n"] == number]
            if not found or (len(found) > 1 and found[0]["schema"] != "public"):
                raise UnknownTableError(name.text)
            full = f"{found[0]['schema']}.{found[0]['table']}"
            tables[full] = Table(full, found[0]["relid"])
        return list(tables.values())

    async def _may_use(self, role: str) -> bool:
        with unavailable_as_ours():
            row = await self._pool.fetchrow(_SQL["role"], role)
        return row is not None and row["may_be_taken"] and not row["is_privileged"]

    async def _fresh(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        if len(self._answers) >= _MOST_ANSWERS:
            self._answers.clear()
            self._asking = {key: lock for key, lock in self._asking.items() if lock.locked()}
        async with self._asking.setdefault(key, asyncio.Lock()):
            kept = self._answers.get(key)
            if kept is not None and time.monotonic() - kept[0] < _FRESH_SECONDS:
                return cast("T", kept[1])
            answer = await ask()
            self._answers[key] = (time.monotonic(), answer)
            return answer
