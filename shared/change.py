"""Changes, batches and ticks, and how they travel from relay to gateway.

A batch holds the changes that became visible between two snapshots of Postgres. It is numbered
without holes within the life of the database. `Batch.epoch` distinguishes a number from one that a
crash of Postgres took back. Row images are JSON text that passes through byte for byte: nothing
here decodes a value.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec

from shared.errors import BusMessageError

FORMAT: Final = 1
"""The version of the messages on the bus; gateways drop what they do not know."""


Epoch = Annotated[int, msgspec.Meta(ge=1, lt=10**9)]
BatchNumber = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=10**9)]
Lsn = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Oid = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
History = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
"""The ranges of the numbers: what a position can hold (`shared.position`) and what Postgres accepts
as a parameter. No relay sends a number outside them."""

NO_IMAGE: Final = msgspec.Raw(b"null")
"""Takes the place of an image that a change does not have."""


class Op(enum.StrEnum):
    """What happened to a row, in the letters of the outbox."""

    CREATE = "I"
    UPDATE = "U"
    DELETE = "D"
    TRUNCATE = "T"


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row created, updated or deleted by a committed transaction (or a TRUNCATE).

    `index` is its place in the batch, over all tables. `new` and `old` are row images, one line of
    JSON each, keys in column order. `truncated` means that an image was larger than the limit: the
    images here hold the key columns only, and the whole ones are in the outbox under `seq`.
    `lost` means that Postgres could not write the image as JSON: there is none.
    """

    index: Index
    seq: Seq
    op: Op
    new: msgspec.Raw = NO_IMAGE
    old: msgspec.Raw = NO_IMAGE
    truncated: bool = False
    lost: bool = False

    @property
    def new_image(self) -> bytes | None:
        """The row after the change, None for a delete."""
        return None if self.new == NO_IMAGE else bytes(self.new)

    @property
    def old_image(self) -> bytes | None:
        """The row before the change, None for a create."""
        return None if self.old == NO_IMAGE else bytes(self.old)


class TableChanges(msgspec.Struct, frozen=True, array_like=True):
    """The changes of one table in one batch.

    `table` is `schema.table` as Postgres knows them (unquoted), `key` the primary key columns.
    """

    table: str
    relid: Oid
    key: tuple[str, ...]
    changes: tuple[Change, ...]


class TableMessage(msgspec.Struct, frozen=True, array_like=True):
    """What one message on a table's channel carries; `history` is the log it comes from."""

    format: int
    history: History
    epoch: Epoch
    batch: BatchNumber
    content: TableChanges


TraceParent = Annotated[str, msgspec.Meta(max_length=200)]
"""A W3C `traceparent`, or nothing. What is none of that form starts a trace of its own."""


class TickTable(msgspec.Struct, frozen=True, array_like=True):
    """A table named by a tick, with the number of its changes in the batch."""

    table: str
    relid: Oid
    changes: int


class Tick(msgspec.Struct, frozen=True, array_like=True):
    """Announces a batch, and while idle repeats the last one as a sign of life.

    `lsn` is a position in the write-ahead log at which all of the batch is committed; a replica
    that has replayed it sees the batch. `history` is the log that holds the batch. `at` is the time
    of the batch, in Unix seconds. `trace` continues the relay's trace of the batch; it is the last
    element, so gateways that know nothing of it ignore it.
    """

    format: int
    history: History
    epoch: Epoch
    batch: BatchNumber
    lsn: Lsn
    at: float
    tables: tuple[TickTable, ...]
    trace: TraceParent = ""

    def announces_same_as(self, other: Tick) -> bool:
        """Whether both say the same of a batch. A leader that repeats it begins another trace."""
        return msgspec.structs.replace(self, trace=other.trace) == other


class Batch(msgspec.Struct, frozen=True):
    """A batch with its content (of all tables, or of those that were asked for).

    `trace` is that of its tick, empty if the batch was read from the outbox.
    """

    epoch: int
    id: int
    lsn: int
    at: float
    tables: tuple[TableChanges, ...]
    trace: str = ""

    def tick(self, history: str, trace: str = "") -> Tick:
        """Return the tick that announces this batch, and continues a trace."""
        named = tuple(TickTable(t.table, t.relid, len(t.changes)) for t in self.tables)
        return Tick(FORMAT, history, self.epoch, self.id, self.lsn, self.at, named, trace)

    def messages(self, history: str) -> list[TableMessage]:
        """Return the table messages of this batch."""
        return [TableMessage(FORMAT, history, self.epoch, self.id, table) for table in self.tables]


def memory_bytes(encoded: int, changes: int) -> int:
    """Return what a decoded message costs in this process, in bytes.

    `encoded` is the length of the message: the images keep it alive. Measured on CPython 3.11:
    680 bytes for a message with one change, 190 for each further change.
    """
    return encoded + _MESSAGE_BYTES + changes * _CHANGE_BYTES


_MESSAGE_BYTES: Final = 500
_CHANGE_BYTES: Final = 200

_encoder = msgspec.json.Encoder()
_tick_decoder = msgspec.json.Decoder(Tick)
_table_decoder = msgspec.json.Decoder(TableMessage)


def encode(message: Tick | TableMessage) -> bytes:
    """Write a message for the bus."""
    return _encoder.encode(message)


def decode_tick(data: bytes) -> Tick:
    """Read a tick; raise `BusMessageError` for anything else."""
    try:
        tick = _tick_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BusMessageError(f"not a tick: {error}") from None
    if tick.format != FORMAT:
        raise BusMessageError(f"tick of unknown format {tick.format}")
    return tick


def decode_table_message(data: bytes) -> TableMessage:
    """Read a table message; raise `BusMessageError` for anything else."""
    try:
        message = _table_decoder.decode(data)
        data.decode()  # the images pass through unread
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BusMessageError(f"not a table message: {error}") from None
    if message.format != FORMAT:
        raise BusMessageError(f"table message of unknown format {message.format}")
    return message
