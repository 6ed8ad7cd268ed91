"""Installing the capture triggers on existing tables, and on new ones soon after they appear.

A trigger's name contains the OID of the table it was installed on: the trigger function only acts
for the trigger of the table's own root. The name begins with `!`, so that it fires first of the
table's triggers: if another trigger writes to the same row again, that change is captured after the
change that fired it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from relay.capture.patterns import Pattern, leaves_out, matches
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from asyncpg import Connection

    from relay.metrics import RelayMetrics

log = structlog.get_logger(__name__)

_SQL: Final = queries("relay.capture")


@dataclass(frozen=True, slots=True)
class Table:
    """A table that could be captured, and the triggers on it."""

    oid: int
    schema: str
    name: str
    quoted: str
    is_owned: bool
    """Whether this login may alter the table."""
    has_virtual: bool
    """Whether it has generated columns that are not stored."""
    triggers: tuple[tuple[str, str, str], ...]
    """Our triggers on it: name, call of a function, and the letter that says when each fires."""

    @property
    def wanted(self) -> dict[str, str]:
        """The triggers it should have, as a mapping from name to call."""
        row = "capture_row('computed')" if self.has_virtual else "capture_row()"
        return {
            f"!ayb_realtime_row_{self.oid}": row,
            f"!ayb_realtime_truncate_{self.oid}": "capture_truncate()",
        }

    @property
    def is_captured(self) -> bool:
        """Whether both triggers exist and fire."""
        present = {name: function for name, function, enabled in self.triggers if enabled in "OA"}
        return self.wanted.items() <= present.items()

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Our triggers with another OID in their name, as in a restored dump; they do nothing."""
        return tuple(name for name, *_ in self.triggers if name not in self.wanted)

    @property
    def is_complete(self) -> bool:
        """Whether this login has nothing to do: only an owner can drop or enable for replicas."""
        if not self.is_owned:
            return self.is_captured
        return not self.leftovers and self.is_captured and all(e == "A" for *_, e in self.triggers)


async def list_tables(connection: Connection) -> list[Table]:
    """List plain tables and the roots of partitioned ones, in all schemas except the system's."""
    return [
        Table(
            row["oid"],
            row["schema"],
            row["name"],
            row["quoted"],
            row["is_owned"],
            row["has_virtual"],
            tuple((t["name"], t["function"], t["enabled"]) for t in _triggers(row)),
        )
        for row in await connection.fetch(_SQL["list_tables"])
    ]


def _triggers(row: asyncpg.Record) -> list[dict[str, str]]:
    return [
        {"name": name, "function": function, "enabled": enabled}
        for name, function, enabled in zip(
            row["trigger_names"], row["trigger_functions"], row["trigger_states"], strict=True
        )
    ]


class Capture:
    """Keeps the triggers in line with the patterns."""

    def __init__(
        self,
        connection: Connection,
        patterns: Sequence[Pattern],
        *,
        lock_milliseconds: int,
        metrics: RelayMetrics | None = None,
    ) -> None:
        self._connection = connection
        self._patterns = patterns
        self._lock_milliseconds = lock_milliseconds
        self._metrics = metrics
        self._logged: dict[tuple[str, str], str] = {}
        self._left_out: set[str] = set()

    async def install(self) -> list[Table]:
        """Install missing triggers and remove excess ones; list tables that cannot be captured."""
        tables = await list_tables(self._connection)
        failed = []
        captured = 0
        for table in tables:
            wanted = matches(self._patterns, table.schema, table.name)
            if wanted and not table.is_complete:
                if not await self._try(table, self._capture, "capture"):
                    failed.append(table)
                    continue
            elif not wanted and table.triggers and table.is_owned:
                await self._try(table, self._release, "release")
            captured += wanted
            if leaves_out(self._patterns, table.schema, table.name):
                self._note_left_out(table.quoted)
        if self._metrics is not None:
            self._metrics.captured_tables.set(captured)
            self._metrics.uncaptured_tables.set(len(failed))
        return failed

    def _note_left_out(self, table: str) -> None:
        if table not in self._left_out:
            self._left_out.add(table)
            log.info("bookkeeping is not captured", table=table, remedy="name it in full")

    async def note_names(self) -> None:
        """Record what names mean: see `column_names` and `enum_labels` in the migrations."""
        for name in (
            "note_column_names",
            "forget_column_names",
            "note_enum_labels",
            "settle_enum_labels",
            "forget_enum_labels",
        ):
            await self._connection.execute(_SQL[name])

    async def _try(self, table: Table, work: _Work, what: str) -> bool:
        """Run DDL on a table without making its users wait; log once whatever prevents it."""
        key = (what, table.quoted)
        try:
            async with self._connection.transaction():
                await self._connection.execute(
                    _SQL["limit_lock_wait"], f"{self._lock_milliseconds}ms"
                )
                await work(table)
        except asyncpg.InsufficientPrivilegeError as error:
            text = f"{error}; GRANT TRIGGER, or run `python -m relay install` as the table's owner"
        except asyncpg.PostgresError as error:
            if self._connection.is_closed():
                raise
            # A lock, an event trigger or anything else: it must not affect other tables.
            text = f"{error}; it will be tried again"
        else:
            self._logged.pop(key, None)
            log.info("triggers changed", change=what, table=table.quoted)
            return True
        if self._logged.get(key) != text:
            self._logged[key] = text
            log.warning("triggers not changed", change=what, table=table.quoted, error=text)
        return False

    async def _capture(self, table: Table) -> None:
        present = {name: function for name, function, _ in table.triggers}
        states = {name: enabled for name, _, enabled in table.triggers}
        if table.is_owned:
            await self._drop(table, present.keys() - table.wanted.keys())
        for name, function in table.wanted.items():
            if present.get(name) != function or states[name] not in "OA":
                statement = _ROW if name.startswith("!ayb_realtime_row") else _TRUNCATE
                await self._connection.execute(
                    statement.format(name=name, table=table.quoted, function=function)
                )
                states[name] = "O"
                if table.has_virtual and present.get(name) == "capture_row()":
                    await self._note_computed(table)
            if table.is_owned and states[name] != "A":
                await self._connection.execute(_ALWAYS.format(name=name, table=table.quoted))

    async def _note_computed(self, table: Table) -> None:
        """Record since when images have the columns that are computed.

        All changes that were captured without have a seq: the DDL has waited for their writers.
        """
        if await self._connection.fetchval(_SQL["may_note_computed"]):
            await self._connection.execute(_SQL["note_computed"], table.oid)

    async def _release(self, table: Table) -> None:
        await self._drop(table, {name for name, _, _ in table.triggers})

    async def _drop(self, table: Table, names: Collection[str]) -> None:
        for name in names:
            await self._connection.execute(_DROP.format(name=name, table=table.quoted))


_Work = Callable[[Table], Awaitable[None]]

# Trigger names are ours and need no escaping; table names come quoted from Postgres.
_ROW: Final = """
CREATE OR REPLACE TRIGGER "{name}" AFTER INSERT OR UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION ayb_realtime.{function}
"""
_TRUNCATE: Final = """
CREATE OR REPLACE TRIGGER "{name}" AFTER TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION ayb_realtime.{function}
"""
_ALWAYS: Final = 'ALTER TABLE {table} ENABLE ALWAYS TRIGGER "{name}"'
_DROP: Final = 'DROP TRIGGER IF EXISTS "{name}" ON {table}'
