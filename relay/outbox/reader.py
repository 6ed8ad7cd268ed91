"""Reading the outbox: a batch is the difference between two snapshots.

Sequence numbers do not follow the order of commits: a low `seq` may become visible after a high
one. So a batch is not "everything after the last `seq`" but what became visible between two
snapshots, as in PgQ: a change made by transaction `xid` is new since the snapshot `prev` if
`xid >= xmax(prev)`, or if `xid` was in progress then (`xip(prev)`); and it is visible now because
the reading statement has a snapshot too. So

* each committed change is in exactly one difference, however late its transaction commits, and
  nothing waits for a long transaction;
* within a difference, changes are ordered by `seq`. Two changes to one row are ordered by the row's
  lock: the second transaction takes its `seq` after the first has ended. If both are in the same
  difference, `seq` orders them; otherwise the first is in the earlier difference.

A difference too large for one batch is cut. The first part is recorded as not complete, together
with both snapshots, and the remainder is the part of the difference that is visible in the second
snapshot and comes after the last `seq`. It can be read again at any time, so a restart continues in
the middle. The remainder is read in pages that contain only keys and sizes, and images are read for
one batch at a time, so memory is bounded whatever a transaction writes.

A batch is recorded by the statement that reads it, and published afterwards. Publishing it twice
under the same number is harmless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from relay.outbox.epoch import Checkpoint, Snapshot, read_checkpoint
from relay.outbox.remainder import BatchLimits, Remainder
from shared.change import Batch, TableChanges
from shared.errors import DatabaseUnavailableError
from shared.outbox import assemble, decode_tables, fetch_images, read_batches
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection, Record

    from relay.metrics import RelayMetrics

log = structlog.get_logger(__name__)

_SQL: Final = queries("relay.outbox")


class Outbox:
    """The reader of the outbox. There is one at a time: the session of its connection leads."""

    def __init__(
        self,
        connection: Connection,
        *,
        epoch: int,
        checkpoint: Checkpoint,
        limits: BatchLimits,
        metrics: RelayMetrics,
    ) -> None:
        self._connection = connection
        self._epoch = epoch
        self._checkpoint = checkpoint
        self._seen = checkpoint.snapshot
        self._limits = limits
        self._metrics = metrics
        self._remainder: Remainder | None = None
        self.hole_after: int | None = None
        """Set if changes were missed; the hole ends with the last transaction older than this."""

    @classmethod
    async def open(
        cls, connection: Connection, *, epoch: int, limits: BatchLimits, metrics: RelayMetrics
    ) -> Outbox:
        """Continue where the log ends."""
        checkpoint = await read_checkpoint(connection)
        return cls(connection, epoch=epoch, checkpoint=checkpoint, limits=limits, metrics=metrics)

    @property
    def seen(self) -> Snapshot | None:
        """The snapshot up to which everything is in a batch; None in the middle of a cut one."""
        return self._seen if self._checkpoint.complete else None

    async def last_batch(self) -> Batch:
        """Read the last recorded batch again: it may not have been published."""
        last = self._checkpoint
        batch = await self._read_recorded(last.id, last.relids)
        if batch is None:
            return Batch(self._epoch, last.id, 0, 0.0, ())
        # Published in the current epoch, so that gateways learn of the epoch.
        return msgspec.structs.replace(batch, epoch=self._epoch)

    async def next_batch(self) -> Batch | None:
        """Read and record the next batch; None if there is nothing new."""
        if self._checkpoint.complete:
            return await self._read_new()
        return await self._read_remainder()

    @property
    def has_hole_due(self) -> bool:
        """Whether every transaction that may be uncaptured has ended and all others have been read.

        The first element of `seen` is the oldest transaction that was in progress.
        """
        seen = self.seen
        return self.hole_after is not None and seen is not None and seen[0] >= self.hole_after

    async def skip_number(self) -> Batch:
        """Close the hole: skip a batch number and raise the horizon above it.

        The batch names every captured table but has no changes, so that gateways ask for that
        number and learn that it is not available. Raises `DatabaseUnavailableError` if this session
        no longer leads; then nothing is changed.
        """
        number = self._checkpoint.id + 1
        async with self._connection.transaction():
            at = await self._connection.fetchval(
                _SQL["skip_number"], number, self._epoch, self._seen
            )
            if at is None:
                raise DatabaseUnavailableError("the lead has been lost")
            await self._connection.execute(_SQL["close_hole"], number + 1)
        self._checkpoint = Checkpoint(number, self._seen, self._seen, True, 0, ())
        self.hole_after = None
        log.warning("batch number skipped: changes before it were not captured", batch=number)
        rows = await self._connection.fetch(_SQL["triggered_tables"])
        tables = tuple(TableChanges(row["table"], row["relid"], (), ()) for row in rows)
        return Batch(self._epoch, number, 0, at, tables)

    async def _read_new(self) -> Batch | None:
        limits, number = self._limits, self._checkpoint.id + 1
        head, *rows = await fetch_images(
            self._connection,
            _SQL["read_and_record"],
            self._seen,
            limits.changes,
            limits.bytes,
            limits.record_bytes,
            number,
            self._epoch,
        )
        snapshot: Snapshot = head["snapshot"]
        tables = decode_tables(head["tables"])
        self._metrics.skipped.inc(len(rows) - _count(rows, {table.relid for table in tables}))
        if not tables and not head["has_more"]:
            self._seen = snapshot
            return None
        is_complete = not head["has_more"]
        relids = tuple({row["relid"]: None for row in rows})
        self._recorded(
            Checkpoint(number, self._seen, snapshot, is_complete, head["last_seq"], relids),
            at=head["at"],
            changes=len(rows),
            size=head["bytes"],
        )
        return Batch(self._epoch, number, head["lsn"], head["at"], assemble(rows, tables))

    async def _read_remainder(self) -> Batch | None:
        last = self._checkpoint
        if self._remainder is None:
            self._remainder = await Remainder.open(self._connection, last, self._limits)
        keys, is_last = await self._remainder.cut()
        batch = None
        if keys:
            batch = await self._record_remainder(keys, self._remainder.lsn, is_complete=is_last)
        else:
            # Rotated away: nothing of the difference is left to read.
            self._seen = last.snapshot
            self._checkpoint = Checkpoint(
                last.id, last.prev_snapshot, last.snapshot, True, last.last_seq, last.relids
            )
        if is_last:
            self._remainder = None
        return batch

    async def _record_remainder(
        self, keys: Sequence[Record], lsn: int, *, is_complete: bool
    ) -> Batch:
        last = self._checkpoint
        number, first_seq, last_seq = last.id + 1, keys[0]["seq"], keys[-1]["seq"]
        size = sum(key["bytes"] for key in keys)
        relids = tuple({key["relid"]: None for key in keys})
        head, *rows = await fetch_images(
            self._connection,
            _SQL["record_and_read"],
            number,
            self._epoch,
            last.prev_snapshot,
            last.snapshot,
            is_complete,
            sorted({key["xid"] for key in keys}),
            first_seq,
            last_seq,
            len(keys),
            size,
            relids,
            lsn,
            self._limits.record_bytes,
        )
        self._recorded(
            Checkpoint(number, last.prev_snapshot, last.snapshot, is_complete, last_seq, relids),
            at=head["at"],
            changes=len(keys),
            size=size,
        )
        tables = decode_tables(head["tables"])
        return Batch(self._epoch, number, lsn, head["at"], assemble(rows, tables))

    def _recorded(
        self, checkpoint: Checkpoint, *, at: float | None, changes: int, size: int
    ) -> None:
        """Continue after a batch; raises `DatabaseUnavailableError` if it was not recorded."""
        if at is None:
            raise DatabaseUnavailableError("the lead has been lost")
        self._checkpoint = checkpoint
        self._seen = checkpoint.snapshot
        self._metrics.recorded(checkpoint.id, changes, size)

    async def _read_recorded(self, number: int, relids: Sequence[int]) -> Batch | None:
        batches = await read_batches(
            self._connection,
            after=number - 1,
            upto=number,
            tables=(),
            relids=relids,
            max_record_bytes=self._limits.record_bytes,
        )
        return batches[0] if batches else None


def _count(rows: Sequence[Record], relids: set[int]) -> int:
    return sum(1 for row in rows if row["relid"] in relids)
