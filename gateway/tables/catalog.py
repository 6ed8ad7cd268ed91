"""Which table a name means, and whether a role may read it.

Answers are a second old at most. Nothing depends on their freshness, since every event is judged by
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.errors import SchemaError
from shared.pool import own_session
from shared.postgres import unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import asyncpg

    from gateway.tables.names import TableName
    from gateway.tables.recent_answers import RecentAnswers
    from gateway.visibility.engine import Visibility

MOST_LISTED: Final = 500
"""The most tables that are listed for a client."""

_SQL: Final = queries("gateway.tables")

_Name = tuple[str, str | None, str]
"""The key of a recent answer: "table", the schema if the client named it, and the table."""


@dataclass(frozen=True, slots=True)
class Table:
    """A captured table."""

    name: str
    """`schema.table`, unquoted."""
    relid: int


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A captured table, with the columns that a role may read.

    `columns` are names, types in SQL, and whether they may be NULL; `key` those of the primary key.
    """

    schema: str
    table: str
    columns: tuple[tuple[str, str, bool], ...]
    key: tuple[str, ...]

    @property
    def name(self) -> str:
        """`schema.table`, unquoted."""
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True)
class TableList:
    """The first tables that a role may read, and whether there are more."""

    tables: tuple[ListedTable, ...]
    is_truncated: bool


class UnknownTableError(LookupError):
    """No captured table has this name; the text is the name."""


class Catalog:
    """Asks the system catalogs about tables."""

    def __init__(
        self, pool: asyncpg.Pool, visibility: Visibility | None, answers: RecentAnswers
    ) -> None:
        self._pool = pool
        self._visibility = visibility
        self._answers = answers

    async def resolve(self, names: Sequence[TableName]) -> list[Table]:
        """Find the tables meant.

        Raises `UnknownTableError` for the first name that means no captured table, or that several
        schemas have while public has not; `SchemaError` if nothing is captured since the outbox is
        missing; `DatabaseUnavailableError`.
        """
        keys = [("table", name.schema, name.table) for name in names]

        async def ask(wanted: Sequence[_Name]) -> dict[_Name, Table]:
            found = await self._resolve(wanted)
            for name, key in zip(names, keys, strict=True):
                if key in wanted and key not in found:
                    await self._check_outbox()
                    raise UnknownTableError(name.text)
            return found

        found = await self._answers.get_all(keys, ask)
        return list({found[key].name: found[key] for key in keys}.values())

    async def may_read(self, table: Table, role: str) -> bool:
        """Return whether a role may read any column of a table."""
        visibility = self._visibility
        if visibility is None:
            return True
        columns = await self._answers.get(
            ("columns", table.relid, role),
            lambda: visibility.readable_columns(table.relid, role),
        )
        return columns != frozenset()

    async def readable_tables(self, role: str | None) -> TableList:
        """List the captured tables that a role may read; all of them if it is None.

        Raises `DatabaseUnavailableError`.
        """
        return await self._answers.get(("tables", role), lambda: self._readable_tables(role))

    async def gone(self, names: Collection[str]) -> set[str]:
        """Return which tables, by `Table.name`, are no longer there, or no longer captured.

        Raises `DatabaseUnavailableError`.
        """
        with unavailable_as_ours():
            rows = await self._fetch(_SQL["gone"], list(names))
        return {row["name"] for row in rows}

    async def _resolve(self, names: Sequence[_Name]) -> dict[_Name, Table]:
        """Return the table that each name means, of those that mean one."""
        with unavailable_as_ours():
            rows = await self._fetch(
                _SQL["resolve"], [schema for _, schema, _ in names], [table for *_, table in names]
            )
        tables: dict[_Name, Table] = {}
        for number, name in enumerate(names, 1):
            found = [row for row in rows if row["n"] == number]
            if len(found) == 1 or (found and found[0]["schema"] == "public"):
                tables[name] = Table(f"{found[0]['schema']}.{found[0]['table']}", found[0]["relid"])
        return tables

    async def _readable_tables(self, role: str | None) -> TableList:
        with unavailable_as_ours():
            rows = await self._fetch(_SQL["readable_tables"], role, MOST_LISTED)
        return TableList(
            tuple(
                ListedTable(
                    row["schema"],
                    row["table"],
                    tuple(zip(row["names"], row["types"], row["nullable"], strict=True)),
                    tuple(row["key"]),
                )
                for row in rows[:MOST_LISTED]
            ),
            len(rows) > MOST_LISTED,
        )

    async def _check_outbox(self) -> None:
        with unavailable_as_ours():
            if not (await self._fetch(_SQL["has_outbox"]))[0][0]:
                raise SchemaError

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with own_session(self._pool) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return rows
