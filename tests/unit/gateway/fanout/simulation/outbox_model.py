"""The outbox, in memory: answers the SQL of `shared/outbox.sql` as the database would.

It also keeps what no gateway can know: which numbers were taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from shared import outbox
from shared.change import Batch, Change, Op, TableChanges
from shared.outbox import LogState
from shared.position import Position

SQL = outbox._SQL


@dataclass(frozen=True)
class Recorded:
    """One batch as the relay recorded it."""

    batch: Batch

    def rows(self, tables: Collection[str], relids: Collection[int]) -> list[dict[str, Any]]:
        batch = self.batch
        wanted = [t for t in batch.tables if t.table in tables or t.relid in relids]
        head = {
            "epoch": batch.epoch,
            "lsn": batch.lsn,
            "at": batch.at,
            "tables": [[t.relid, t.table, list(t.key), []] for t in wanted],
        }
        rows: list[dict[str, Any]] = [
            {"batch": batch.id, "seq": None, "head": json.dumps(head)},
        ]
        changes = [(change, t) for t in wanted for change in t.changes]
        for change, table in sorted(changes, key=lambda pair: pair[0].index):
            rows.append(
                {
                    "batch": batch.id,
                    "seq": change.seq,
                    "index": change.index,
                    "relid": table.relid,
                    "op": change.op.value,
                    "new": change.new_image,
                    "old": change.old_image,
                    "truncated": False,
                    "head": None,
                }
            )
        return rows


class OutboxModel:
    """The log of batches, its epochs, and whether the database answers."""

    def __init__(self) -> None:
        self.batches: dict[int, Batch] = {}
        self.epochs: dict[int, int] = {1: 1}
        self.horizon = 1
        self.history = "0123456789abcdef"
        self.is_available = True
        self.delay_seconds = 0.0
        self.questions = 0
        self.crashes = 0
        self.rotations = 0
        self._is_crashed = False
        self._seq = 0

    @property
    def epoch(self) -> int:
        return max(self.epochs)

    @property
    def last_batch(self) -> int:
        return max(self.batches, default=min(self.epochs.values()) - 1)

    def state(self) -> LogState:
        return LogState(self.epoch, self.last_batch, self.horizon, dict(self.epochs), self.history)

    def epoch_of(self, batch: int) -> int:
        """The epoch in which a number was given out for good."""
        return max((e for e, first in self.epochs.items() if first <= batch), default=1)

    def holds(self, position: Position) -> bool:
        """Whether the number of a position was not taken back."""
        return self.standing(position) == position

    def standing(self, position: Position) -> Position:
        """A position, or the last whole batch before it that was not taken back."""
        later = [first for other, first in self.epochs.items() if other > position.epoch]
        last = min([first - 1 for first in later] + [self.last_batch])
        return position if position.batch <= last else Position(self.epoch_of(last), last)

    def append(self, changes: Sequence[tuple[str, int]], *, at: float = 0.0) -> Batch:
        """Record a batch of inserts, given by table name and oid."""
        self.recover()
        number = self.last_batch + 1
        found: dict[tuple[str, int], list[Change]] = {}
        for index, table in enumerate(changes):
            self._seq += 1
            image = msgspec.Raw(b'{"id":%d}' % self._seq)
            found.setdefault(table, []).append(Change(index, self._seq, Op.CREATE, image))
        tables = tuple(
            TableChanges(name, relid, ("id",), tuple(rows)) for (name, relid), rows in found.items()
        )
        batch = Batch(self.epoch, number, self._seq, at, tables)
        self.batches[number] = batch
        return batch

    def crash(self, lost: int) -> None:
        """Take the last numbers back; the next batch begins an epoch."""
        kept = sorted(self.batches)[: max(1, len(self.batches) - lost)]
        self.batches = {number: self.batches[number] for number in kept}
        self.crashes += 1
        self._is_crashed = True

    def recover(self) -> None:
        """Let the relay start again after a crash, if it has not yet."""
        if self._is_crashed:
            self.begin_epoch()

    def begin_epoch(self) -> None:
        """Begin an epoch: numbers go on after the last one that is left."""
        self.epochs[self.epoch + 1] = self.last_batch + 1
        self._is_crashed = False

    def rotate(self, keep: int) -> None:
        """Forget all but the newest batches."""
        self.horizon = max(self.horizon, self.last_batch + 1 - keep)
        self.rotations += 1

    # What asyncpg offers.

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[OutboxModel]:
        await self._answer()
        yield self

    async def fetchrow(self, sql: str) -> dict[str, Any]:
        assert sql == SQL["log_state"]
        await self._answer()
        state = self.state()
        await asyncio.sleep(0)
        return {
            "epoch": state.epoch,
            "last_batch": state.last_batch,
            "horizon": state.horizon,
            "epochs": sorted(state.first_batches),
            "history": state.history,
            "first_batches": [state.first_batches[e] for e in sorted(state.first_batches)],
        }

    async def fetchval(self, sql: str) -> int:
        assert sql == SQL["horizon"]
        return self.horizon

    async def fetch(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        assert sql == SQL["read_batches"]
        after, upto, tables, relids, most_batches, *_ = arguments
        await self._answer()
        numbers = [n for n in sorted(self.batches) if max(after, self.horizon - 1) < n <= upto]
        rows = [
            row
            for n in numbers[:most_batches]
            for row in Recorded(self.batches[n]).rows(tables, relids)
        ]
        await asyncio.sleep(0)
        return rows

    async def _answer(self) -> None:
        self.questions += 1
        await asyncio.sleep(self.delay_seconds)
        if not self.is_available:
            raise ConnectionRefusedError("the simulated database is away")
