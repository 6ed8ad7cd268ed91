"""The remainder of a difference that is too large for one batch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.sql import queries

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from relay.outbox.epoch import Checkpoint

_SQL: Final = queries("relay.outbox")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one batch holds; one change is always taken."""

    changes: int
    bytes: int
    record_bytes: int
    """A larger row image travels as its key alone."""


class Remainder:
    """Keys and sizes of changes that are still to be put in batches, behind a cursor."""

    def __init__(self, connection: Connection, limits: BatchLimits, lsn: int) -> None:
        self._connection = connection
        self._limits = limits
        self._rows: deque[Any] = deque()
        self._ended = False
        self.lsn = lsn

    @classmethod
    async def open(cls, connection: Connection, cut: Checkpoint, limits: BatchLimits) -> Remainder:
        """Open the cursor behind the last change of a batch that was cut."""
        await connection.execute(
            _SQL["open_remainder"],
            cut.prev_snapshot,
            cut.snapshot,
            cut.last_seq,
            limits.record_bytes,
        )
        return cls(connection, limits, await connection.fetchval(_SQL["insert_lsn"]))

    async def cut(self) -> tuple[list[Record], bool]:
        """Take the rows of the next batch, and tell whether it is the last."""
        limits, size = self._limits, 0
        taken: list[Record] = []
        while len(taken) < limits.changes and await self._has_rows():
            size += self._rows[0]["bytes"]
            if taken and size > limits.bytes:
                break
            taken.append(self._rows.popleft())
        return taken, not await self._has_rows()

    async def close(self) -> None:
        """Give the cursor back."""
        await self._connection.execute(_SQL["close_remainder"])

    async def _has_rows(self) -> bool:
        if not self._rows and not self._ended:
            self._rows.extend(await self._connection.fetch(_SQL["fetch_remainder"]))
            self._ended = not self._rows
        return bool(self._rows)
