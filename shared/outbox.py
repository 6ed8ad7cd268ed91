"""From rows of the outbox to changes and batches.

The relay reads new changes, the gateways read recorded ones. Both use `assemble`, so that a batch
is the same for every reader, byte for byte and number for number. Changes are numbered over the
whole batch, in the order of `seq`, before anything is left out of it (other tables, or tables that
have been dropped since).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
import structlog

from shared.change import NO_IMAGE, Batch, Change, Op, TableChanges
from shared.errors import SchemaError
from shared.postgres import UNAVAILABLE
from shared.render import UnreadableImageError, render
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from asyncpg import Connection, Record

    Row = Mapping[str, Any]
    """Keys seq, index, relid, op, new, old, truncated; images are JSON text as bytes."""

MAX_RECORD_BYTES: Final = 1024 * 1024
"""A larger row image travels as its key alone."""

_WITH_NEW: Final = (Op.CREATE, Op.UPDATE)
_WITH_OLD: Final = (Op.UPDATE, Op.DELETE)

log = structlog.get_logger(__name__)

_SQL: Final = queries("shared", "outbox.sql")
_MISSING: Final = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
)


class Captured(msgspec.Struct, frozen=True, array_like=True):
    """A table whose changes are in a batch, described as it is now.

    `table` is `schema.table`, `key` the primary key in its order, `stamps` the columns of type
    `timestamptz`.
    """

    relid: int
    table: str
    key: tuple[str, ...]
    stamps: tuple[str, ...]


class _Head(msgspec.Struct, frozen=True):
    epoch: int
    lsn: int
    at: float
    tables: tuple[Captured, ...]


@dataclass(frozen=True, slots=True)
class LogState:
    """The state of the log of batches.

    Before the relay's first start `epoch` is 0 and `first_batches` is empty. `horizon` is the
    oldest batch whose changes are certainly all there. `first_batches` holds each epoch's first
    number. `history` identifies the log: 16 hexadecimal digits of a digest over Postgres' system
    identifier and the database. It is None where the newest epoch was begun in another database, of
    which this one is a copy: its relay has not run yet.
    """

    epoch: int
    last_batch: int
    horizon: int
    first_batches: Mapping[int, int]
    history: str | None = None


_head_decoder = msgspec.json.Decoder(_Head)
_tables_decoder = msgspec.json.Decoder(tuple[Captured, ...])


def decode_tables(text: str) -> tuple[Captured, ...]:
    """Read the description of tables that comes with the rows of a batch."""
    return _tables_decoder.decode(text)


def assemble(rows: Iterable[Row], tables: Iterable[Captured]) -> tuple[TableChanges, ...]:
    """Group the rows of one batch by table; rows of other tables are left out.

    Tables are in the order of their first changes.
    """
    captured = {table.relid: table for table in tables}
    found: dict[int, list[Change]] = {}
    for row in rows:
        table = captured.get(row["relid"])
        if table is not None:
            found.setdefault(table.relid, []).append(_change(row, table))
    return tuple(
        TableChanges(captured[relid].table, relid, captured[relid].key, tuple(changes))
        for relid, changes in found.items()
    )


def _change(row: Row, table: Captured) -> Change:
    index, seq, op = row["index"], row["seq"], Op(row["op"])
    new, old = row["new"], row["old"]
    try:
        if (new is None and op in _WITH_NEW) or (old is None and op in _WITH_OLD):
            return Change(index, seq, op, lost=True)
        return Change(
            index,
            seq,
            op,
            NO_IMAGE if new is None else msgspec.Raw(render(new, table.stamps)),
            NO_IMAGE if old is None else msgspec.Raw(render(old, table.stamps)),
            row["truncated"],
        )
    except UnreadableImageError:
        return Change(index, seq, op, lost=True)


async def log_state(connection: Connection) -> LogState:
    """Read the state of the log; raises `SchemaError` if there is none."""
    try:
        row = await connection.fetchrow(_SQL["log_state"])
    except _MISSING as error:
        raise SchemaError from error
    first_batches = dict(zip(row["epochs"], row["first_batches"], strict=True))
    return LogState(row["epoch"], row["last_batch"], row["horizon"], first_batches, row["history"])


async def functions_version(connection: Connection) -> int:
    """Read which version of our functions is installed; raises `SchemaError` if none is."""
    try:
        version: int | None = await connection.fetchval(_SQL["functions_version"])
    except _MISSING as error:
        raise SchemaError from error
    if version is None:
        raise SchemaError
    return version


async def read_batches(
    connection: Connection,
    *,
    after: int,
    upto: int,
    tables: Collection[str],
    relids: Collection[int],
    most_batches: int = 500,
    most_changes: int = 2_000,
    most_bytes: int = 8 * 1024 * 1024,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> list[Batch]:
    """Read the recorded batches numbered from `after + 1` to `upto`, in order.

    They contain the changes of the given tables only (`schema.table` names, or OIDs). The list is
    as long as the limits allow, but a batch is never cut. It is empty, or begins later, if batches
    are not visible yet (on a replica that lags) or have been rotated away.
    """
    rows = await fetch_images(
        connection,
        _SQL["read_batches"],
        after,
        upto,
        list(tables),
        list(relids),
        most_batches,
        most_changes,
        most_bytes,
        max_record_bytes,
    )
    # A partition may have been emptied while this statement ran, because TRUNCATE takes effect in
    # older snapshots too. The horizon was raised in the same transaction.
    horizon = await connection.fetchval(_SQL["horizon"]) if rows else 0
    return [
        _batch(batch, head, changes) for batch, head, changes in _grouped(rows) if batch >= horizon
    ]


def _grouped(rows: Iterable[Row]) -> Iterable[tuple[int, _Head, Sequence[Row]]]:
    group: list[Row] = []
    grouped: list[tuple[int, _Head, Sequence[Row]]] = []
    for row in rows:
        if row["seq"] is None:
            group = []
            grouped.append((row["batch"], _head_decoder.decode(row["head"]), group))
        else:
            group.append(row)
    return grouped


def _batch(number: int, head: _Head, rows: Sequence[Row]) -> Batch:
    return Batch(head.epoch, number, head.lsn, head.at, assemble(rows, head.tables))


async def image_bytes(connection: Connection, seqs: Collection[int]) -> dict[int, int]:
    """Measure the images of changes as they lie in the outbox, in bytes by seq."""
    rows = await connection.fetch(_SQL["image_bytes"], list(seqs))
    return {row["seq"]: row["bytes"] for row in rows}


async def whole_images(
    connection: Connection, seqs: Collection[int]
) -> dict[tuple[int, int], tuple[bytes | None, bytes | None]]:
    """Fetch the whole (new, old) images of truncated changes from the outbox, by table and seq.

    The table is part of the key because a forged message may name another table's change. Images
    that have been rotated away are missing from the result. One image takes at most 8 MiB: capture
    has reduced larger ones. The caller bounds the sum (`image_bytes`).
    """
    rows = await fetch_images(connection, _SQL["whole_images"], list(seqs))
    return {(row["relid"], row["seq"]): (row["new"], row["old"]) for row in rows}


async def fetch_images(connection: Connection, query: str, *arguments: object) -> list[Record]:
    r"""Fetch rows with images, by a query whose last parameter guards each image by itself.

    Postgres stores values that it cannot read again: `\u0000` in a `json`, nesting that exceeds
    its stack, bytes that are not in the database's encoding, or more than there is memory for. One
    of them fails the whole query, so the query is repeated with the guard, which makes an image
    that raises an error NULL.
    """
    try:
        rows: list[Record] = await connection.fetch(query, *arguments, False)
    except asyncpg.OutOfMemoryError as error:
        rows = await _fetch_guarded(connection, query, arguments, error)
    except UNAVAILABLE:
        raise
    except (asyncpg.SyntaxOrAccessError, asyncpg.InvalidSchemaNameError):
        raise
    except asyncpg.PostgresError as error:
        rows = await _fetch_guarded(connection, query, arguments, error)
    return rows


async def _fetch_guarded(
    connection: Connection,
    query: str,
    arguments: tuple[object, ...],
    error: asyncpg.PostgresError,
) -> list[Record]:
    # Its text may quote a value of the row.
    log.warning("an image cannot be read", sqlstate=error.sqlstate, error=type(error).__name__)
    rows: list[Record] = await connection.fetch(query, *arguments, True)
    return rows
