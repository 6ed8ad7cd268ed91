"""The batches after a given one: from memory where they are, else from the outbox.

Consecutive numbers are the whole loss detection. Whatever the bus brings (`on_tick`) or polling
finds (`apply_state`) only moves the newest known batch forward and fills the ring; who reads always
asks for what follows the batch he has, and gets it without a hole: from the ring, if it holds what
is wanted of that batch, else from the outbox through the read pool. So a lost message, a restart of
anything, and a slow reader are one and the same case.

Batch numbers go on over epochs. An epoch's batches end where the next one's begin; a position
beyond that end names a number that a crash of Postgres took back, and is unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import asyncpg
import structlog

from shared import outbox
from shared.change import Batch, TableChanges, Tick
from shared.errors import DatabaseUnavailableError, SchemaError
from shared.position import WHOLE, Position
from shared.postgres import unavailable_as_ours

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gateway.fanout.subscriptions import Subscriptions
    from gateway.metrics import GatewayMetrics

log = structlog.get_logger(__name__)

_MOST_BATCHES_A_READ = 500
_MOST_CHANGES_A_READ = 2_000
_MOST_BYTES_A_READ = 1024 * 1024
_MOST_SECONDS_AHEAD = 60.0
_AHEAD_SECONDS = 1.0
_ASKED_APART_SECONDS = 0.1


@dataclass(slots=True)
class _Kept:
    """What the ring holds of one batch: the tick, and the content of some of its tables."""

    tick: Tick
    tables: dict[int, TableChanges]
    size: int

    def has_all_of(self, subscriptions: Subscriptions) -> bool:
        return all(
            table.relid in self.tables
            for table in self.tick.tables
            if subscriptions.wants(table.table, table.relid)
        )

    def batch(self, subscriptions: Subscriptions) -> Batch:
        tick = self.tick
        wanted = tuple(
            self.tables[table.relid]
            for table in tick.tables
            if subscriptions.wants(table.table, table.relid)
        )
        return Batch(tick.epoch, tick.batch, tick.lsn, tick.at, wanted)


class Backlog:
    """The ring and the outbox behind it."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        most_bytes: int,
        max_record_bytes: int,
        metrics: GatewayMetrics,
    ) -> None:
        self._pool = pool
        self._most_bytes = most_bytes
        self._max_record_bytes = max_record_bytes
        self._metrics = metrics
        self._ring: OrderedDict[int, _Kept] = OrderedDict()
        self._bytes = 0
        self._newest = 0
        self._history: str | None = None
        self._epoch = 0
        self._first_batches: dict[int, int] = {}
        self._horizon = 1
        self._ahead_since: float | None = None
        self._moved = asyncio.Event()
        self._awaiting = asyncio.Lock()
        self._asked_at = float("-inf")

    @property
    def is_known(self) -> bool:
        """Whether the state of the outbox has been read at all."""
        return self._epoch > 0

    @property
    def newest(self) -> int:
        """The newest batch that has been announced."""
        return self._newest

    @property
    def ring_bytes(self) -> int:
        """How many bytes the ring holds."""
        return self._bytes

    def position(self, batch: int) -> Position:
        """Name the place after a whole batch."""
        return Position(self.epoch_of(batch), batch)

    def epoch_of(self, batch: int) -> int:
        """Tell in which epoch a batch number was given out for good."""
        return max(
            (epoch for epoch, first in self._first_batches.items() if first <= batch), default=1
        )

    def last_before(self, epoch: int) -> int:
        """Name the last batch of an epoch that is over."""
        return (
            min(
                (first for later, first in self._first_batches.items() if later > epoch),
                default=self._newest + 1,
            )
            - 1
        )

    def resume_error(self, position: Position) -> Literal["expired", "unknown"] | None:
        """Tell why the changes after a position cannot be had, or None where they can."""
        newest = self._newest
        if position.batch > newest or self.epoch_of(position.batch) != position.epoch:
            return "unknown"
        needed = position.batch if position.index != WHOLE else position.batch + 1
        return "expired" if needed < self._horizon else None

    async def await_position(self, position: Position) -> None:
        """Wait a moment for a position that lies ahead: another gateway may have heard more.

        All who wait share the questions to the outbox. Raises `DatabaseUnavailableError`.
        """
        end = time.monotonic() + _AHEAD_SECONDS
        while self._is_ahead(position) and time.monotonic() < end:
            async with self._awaiting:
                if time.monotonic() - self._asked_at >= _ASKED_APART_SECONDS:
                    await self.refresh()
                    self._asked_at = time.monotonic()
            if self._is_ahead(position):
                await asyncio.sleep(_ASKED_APART_SECONDS)

    def _is_ahead(self, position: Position) -> bool:
        if position.epoch == self._epoch:
            return position.batch > self._newest
        return position.epoch > self._epoch

    def is_gone(self, batch: int) -> bool:
        """Whether a batch is older than what the outbox holds."""
        return batch < self._horizon

    async def refresh(self) -> None:
        """Read the state of the outbox; raises `DatabaseUnavailableError`.

        A schema that is missing or may not be read yet counts as unavailable too: whoever deploys
        in another order than we think is told, and need not restart us.
        """
        try:
            with unavailable_as_ours():
                async with self._pool.acquire() as connection:
                    state = await outbox.log_state(connection)
        except SchemaError as error:
            raise DatabaseUnavailableError(str(error)) from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseUnavailableError(
                f"{error}: run `python -m relay roles | psql`, which grants it"
            ) from error
        self.apply_state(state)

    def apply_state(self, state: outbox.LogState) -> None:
        """Take in what the outbox says of itself; nothing before the relay's first start."""
        if not state.epoch:
            return
        self._history = state.history
        self._first_batches = dict(state.first_batches)
        self._horizon = state.horizon
        if state.epoch != self._epoch:
            self._begin_epoch(state.epoch, state.first_batches[state.epoch])
            self._newest = state.last_batch
        self._check_announced(state.last_batch)
        self._announce(state.last_batch)

    async def on_tick(self, tick: Tick, tables: Mapping[int, TableChanges], size: int) -> None:
        """Take in what came over the bus: a tick and the table messages before it."""
        if tick.epoch != self._epoch:
            await self.refresh()
            if tick.epoch != self._epoch:
                return
        if tick.batch >= self._newest and tick.batch not in self._ring:
            self._keep(_Kept(tick, dict(tables), size))
        self._announce(tick.batch)

    async def history_other_than(self, history: str | None) -> str:
        """Wait until the log is known to be of another history than this one, and return it."""
        while self._history is None or self._history == history:
            self._moved.clear()
            await self._moved.wait()
        return self._history

    async def wait_beyond(self, batch: int) -> None:
        """Wait until a batch after the given one is known, or numbers were taken back."""
        while self._newest == batch:
            self._moved.clear()
            await self._moved.wait()

    async def read(self, after: int, upto: int, subscriptions: Subscriptions) -> Sequence[Batch]:
        """Read the batches after one, in order, up to another, as far as one portion goes.

        Their content is that of the wanted tables. Raises `DatabaseUnavailableError`. An empty
        answer means that the read database has not got them yet.
        """
        batches: list[Batch] = []
        changes = size = 0
        for number in range(after + 1, min(upto, after + _MOST_BATCHES_A_READ) + 1):
            kept = self._ring.get(number)
            if kept is None or not kept.has_all_of(subscriptions):
                break
            batch = kept.batch(subscriptions)
            changes += sum(len(table.changes) for table in batch.tables)
            size += kept.size
            if batches and (changes > _MOST_CHANGES_A_READ or size > _MOST_BYTES_A_READ):
                break
            batches.append(batch)
        if not batches:
            batches = await self._read_outbox(after, upto, subscriptions)
        return batches

    async def whole_images(
        self, seqs: Collection[int]
    ) -> Mapping[tuple[int, int], tuple[bytes | None, bytes | None]]:
        """Fetch row images that were too large for the bus, by table and seq.

        Raises `DatabaseUnavailableError`.
        """
        with unavailable_as_ours():
            async with self._pool.acquire() as connection:
                return await outbox.whole_images(connection, seqs)

    async def _read_outbox(
        self, after: int, upto: int, subscriptions: Subscriptions
    ) -> list[Batch]:
        with unavailable_as_ours():
            async with self._pool.acquire() as connection:
                batches = await outbox.read_batches(
                    connection,
                    after=after,
                    upto=upto,
                    tables=subscriptions.tables,
                    relids=subscriptions.relids,
                    most_batches=_MOST_BATCHES_A_READ,
                    most_changes=_MOST_CHANGES_A_READ,
                    most_bytes=_MOST_BYTES_A_READ,
                    max_record_bytes=self._max_record_bytes,
                )
        self._metrics.outbox_reads.inc()
        if batches and batches[0].id == after + 1:
            return batches
        # Either the read database is behind, or what was next has been rotated away.
        await self.refresh()
        return []

    def _begin_epoch(self, epoch: int, first_batch: int) -> None:
        log.info("epoch", epoch=epoch, first_batch=first_batch)
        self._epoch = epoch
        for number in [number for number in self._ring if number >= first_batch]:
            self._bytes -= self._ring.pop(number).size

    def _keep(self, kept: _Kept) -> None:
        self._ring[kept.tick.batch] = kept
        self._bytes += kept.size
        while self._bytes > self._most_bytes and len(self._ring) > 1:
            _, dropped = self._ring.popitem(last=False)
            self._bytes -= dropped.size

    def _check_announced(self, last_batch: int) -> None:
        """Take back announcements that the read database does not confirm for too long."""
        if self._newest <= last_batch:
            self._ahead_since = None
        elif self._ahead_since is None:
            self._ahead_since = time.monotonic()
        elif time.monotonic() - self._ahead_since > _MOST_SECONDS_AHEAD:
            log.warning("announced batches never came", announced=self._newest, last=last_batch)
            self._newest = last_batch
            self._ahead_since = None

    def _announce(self, batch: int) -> None:
        self._newest = max(self._newest, batch)
        self._moved.set()
