"""The remainder of a difference that is too large for one batch.

It is read in pages that follow the last `seq` and contain only keys and sizes: neither this process
nor Postgres ever holds all of it, in memory or in a temporary file, whatever a transaction writes.
If the difference consists of few transactions (a burst), a page is the next piece of each one's
index range. If there are many (the relay was away), each page scans the whole difference, so it is
longer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection, Record

    from relay.outbox.epoch import Checkpoint

FEW_TRANSACTIONS: Final = 32
_PAGE: Final = 2_000
_LONG_PAGE: Final = 50_000

_SQL: Final = queries("relay.outbox")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one batch may hold; it always holds at least one change."""

    changes: int
    bytes: int
    record_bytes: int
    """A row image larger than this is sent as its key alone."""


class Remainder:
    """Keys and sizes of the changes that are still to be put into batches."""

    def __init__(
        self, connection: Connection, cut: Checkpoint, limits: BatchLimits, xids: Sequence[int]
    ) -> None:
        self._connection = connection
        self._cut = cut
        self._limits = limits
        self._xids = xids if len(xids) <= FEW_TRANSACTIONS else None
        self._rows: deque[Any] = deque()
        self._last_seq = cut.last_seq
        self._is_read = False
        self.lsn = 0

    @classmethod
    async def open(cls, connection: Connection, cut: Checkpoint, limits: BatchLimits) -> Remainder:
        """Start after the last change of a batch that was cut."""
        rows = await connection.fetch(
            _SQL["remainder_xids"], cut.prev_snapshot, cut.snapshot, FEW_TRANSACTIONS + 1
        )
        remainder = cls(connection, cut, limits, [row["xid"] for row in rows])
        remainder.lsn = await connection.fetchval(_SQL["insert_lsn"])
        return remainder

    async def cut(self) -> tuple[list[Record], bool]:
        """Take the rows of the next batch; return them and whether they are the last."""
        limits, size = self._limits, 0
        taken: list[Record] = []
        while len(taken) < limits.changes and await self._has_rows():
            size += self._rows[0]["bytes"]
            if taken and size > limits.bytes:
                break
            taken.append(self._rows.popleft())
        return taken, not await self._has_rows()

    async def _has_rows(self) -> bool:
        if not self._rows and not self._is_read:
            page = await self._next_page()
            self._rows.extend(page)
            if page:
                self._last_seq = page[-1]["seq"]
            else:
                self._is_read = True
        return bool(self._rows)

    async def _next_page(self) -> list[Record]:
        arguments: tuple[object, ...]
        if self._xids is not None:
            query, arguments, size = "remainder_of_transactions", (self._xids,), _PAGE
        else:
            snapshots = self._cut.prev_snapshot, self._cut.snapshot
            query, arguments, size = "remainder_of_snapshots", snapshots, _LONG_PAGE
        page: list[Record] = await self._connection.fetch(
            _SQL[query], *arguments, self._last_seq, size, self._limits.record_bytes
        )
        return page
