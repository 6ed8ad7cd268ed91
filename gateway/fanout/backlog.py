"""The batches after a given one: from memory where they are, else from the outbox.

Consecutive numbers are the whole loss detection. Readers ask for the batches after their own
position and get them without a hole: from the ring, if it holds what is wanted of that batch, else
from the outbox through the read pool. So a lost message, a restart of anything, and a slow reader
are one and the same case.

What a tick announces is a hint. A batch counts as the newest (`newest`) if the outbox says so, or
if ticks of the current epoch lead up to it from a batch that the outbox has confirmed, without a
hole. Any other number is looked up in the outbox at once and forgotten if it is not there within a
second; a real relay repeats its tick. What only ticks vouch for is looked up within a second too.

Batch numbers go on over epochs (see `gateway.fanout.epochs`). The ring drops the batches that an
epoch's end took back at the moment the gateway learns of it, and a read that was under way
meanwhile comes back empty.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import structlog

from gateway.fanout import ring
from gateway.fanout.epochs import Epochs, ResumeError
from gateway.fanout.recent_read import RecentRead
from gateway.fanout.ring import Ring, RingEntry
from gateway.streams.cursor import Cursor, cursor_at, position_at
from shared import outbox
from shared.backoff import Backoff
from shared.errors import DatabaseUnavailableError, SchemaError
from shared.pool import own_session
from shared.position import Position
from shared.postgres import unavailable_as_ours

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gateway.fanout.subscriptions import Subscriptions
    from gateway.metrics import GatewayMetrics
    from shared.change import Batch, TableChanges, Tick

log = structlog.get_logger(__name__)

_MOST_UNCONFIRMED_SECONDS = 60.0
_DOUBT_SECONDS = 1.0
_AHEAD_SECONDS = 1.0
_ASKED_APART_SECONDS = 0.1


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
        self._max_record_bytes = max_record_bytes
        self._metrics = metrics
        self._ring = Ring(most_bytes=most_bytes)
        self._recent = RecentRead()
        self._history: str | None = None
        self._epochs = Epochs()
        self._horizon = 1
        self._confirmed = 0
        self._newest = 0
        self._floor, self._ceiling = Cursor(0), Cursor(0)
        self._hint: tuple[int, int] | None = None
        self._hinted_at = 0.0
        self._unconfirmed: tuple[int, float] | None = None
        self._doubt = asyncio.Event()
        self._moved = asyncio.Event()
        self._awaiting = asyncio.Lock()
        self._asked_at = float("-inf")

    @property
    def is_known(self) -> bool:
        """Whether the state of the outbox has been read at all."""
        return self._epochs.current > 0

    @property
    def newest(self) -> int:
        """The newest batch: confirmed by the outbox, or by ticks without a hole from there on."""
        return self._newest

    @property
    def confirmed(self) -> int:
        """The newest batch that the outbox has confirmed."""
        return self._confirmed

    @property
    def epochs(self) -> Epochs:
        """The epochs as last read from the outbox; replaced when they change."""
        return self._epochs

    @property
    def ring_bytes(self) -> int:
        """What the ring costs in this process, in bytes."""
        return self._ring.bytes

    def position(self, batch: int) -> Position:
        """Return the position after a whole batch."""
        return Position(self._epochs.epoch_of(batch), batch)

    def is_taken_back(self, cursor: Cursor) -> bool:
        """Whether a cursor stands beyond the point where its epoch was cut, or beyond the newest.

        The latter may pass: the outbox may confirm the number yet.
        """
        if self._floor <= cursor <= self._ceiling:
            return False
        position = position_at(cursor)
        return position.batch > self._newest or not self._epochs.holds(
            position.epoch, position.batch
        )

    def is_cut(self, cursor: Cursor) -> bool:
        """Whether the end of its epoch took the number of a cursor back, and so for good."""
        if not self.is_taken_back(cursor):
            return False
        position = position_at(cursor)
        return not self._epochs.holds(position.epoch, position.batch)

    def surviving(self, cursor: Cursor) -> Position:
        """Return the last whole batch up to a cursor that was not taken back."""
        return self._epochs.surviving(position_at(cursor), self._newest)

    def resume_error(self, position: Position) -> ResumeError | None:
        """Return why the changes after a position cannot be had, or None if they can."""
        return self._epochs.resume_error(position, newest=self._newest, horizon=self._horizon)

    def is_ahead(self, position: Position) -> bool:
        """Whether a position lies beyond what this gateway knows, and may be a true one."""
        return self._epochs.may_come(
            position, newest=self._newest, horizon=self._horizon, now=time.time()
        )

    async def await_position(self, position: Position) -> None:
        """Wait a moment for a position that lies ahead: another gateway may have seen more.

        All who wait share the questions to the outbox. Raises `DatabaseUnavailableError`.
        """
        end = time.monotonic() + _AHEAD_SECONDS
        while self.is_ahead(position) and time.monotonic() < end:
            async with self._awaiting:
                if time.monotonic() - self._asked_at >= _ASKED_APART_SECONDS:
                    await self.refresh()
                    self._asked_at = time.monotonic()
            if self.is_ahead(position):
                await asyncio.sleep(_ASKED_APART_SECONDS)

    def is_gone(self, batch: int) -> bool:
        """Whether a batch is older than what the outbox holds."""
        return batch < self._horizon

    async def run(self) -> None:
        """Look up in the outbox what ticks announce and nothing else confirms."""
        backoff = Backoff(first_seconds=0.02, most_seconds=0.5)
        while True:
            try:
                async with asyncio.timeout(_DOUBT_SECONDS):
                    await self._doubt.wait()
            except TimeoutError:
                self._recent.drop()
                if self._newest <= self._confirmed:
                    continue
            try:
                await self.refresh()
            except DatabaseUnavailableError as error:
                log.warning("announced batches not confirmed", reason=str(error))
            else:
                self._settle()
            if self._doubt.is_set():
                await asyncio.sleep(backoff.next_seconds())
            else:
                backoff.reset()

    async def refresh(self) -> None:
        """Read the state of the outbox; raises `DatabaseUnavailableError`.

        A schema that is missing or may not be read yet counts as unavailable too: it may be
        installed later, and the gateway need not be restarted for it.
        """
        try:
            with unavailable_as_ours():
                async with own_session(self._pool) as connection:
                    state = await outbox.log_state(connection)
        except SchemaError as error:
            raise DatabaseUnavailableError(str(error)) from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseUnavailableError(
                f"{error}: run `python -m relay roles | psql`, which grants it"
            ) from error
        self.apply_state(state)

    def apply_state(self, state: outbox.LogState) -> None:
        """Take over what the outbox says about itself.

        Nothing happens before the relay's first start, or if the state is one that this gateway
        has seen pass: a standby that lags behind the one asked before.
        """
        epochs = Epochs.of(state.first_batches)
        if not state.epoch or epochs.is_earlier_than(self._epochs):
            return
        is_other_history = state.history is not None and state.history != self._history
        if is_other_history:
            self._history = state.history
            self._ring.drop(lambda _: True)
            self._recent.drop()
        self._horizon = state.horizon
        if epochs != self._epochs or is_other_history:
            log.info("epoch begins", epoch=epochs.current, first_batch=epochs.current_start)
            self._epochs = epochs
            self._confirmed = self._newest = state.last_batch
            self._unconfirmed = None
            self._ring.drop(lambda entry: not epochs.holds(entry.tick.epoch, entry.tick.batch))
        self._confirm(state.last_batch)
        self._check_unconfirmed(state.last_batch)
        self._moved.set()

    def on_tick(self, tick: Tick, tables: Mapping[int, TableChanges], size: int) -> None:
        """Take in what came over the bus: a tick and the table messages before it.

        It is kept if it is the next batch, or the newest one, which polling may have found first.
        """
        current = self._epochs.current
        if tick.epoch == current:
            entry = self._ring.get(tick.batch)
            if entry is not None and not entry.tick.announces_same_as(tick):
                self._distrust(tick.batch)
            elif entry is None and self._newest <= tick.batch <= self._newest + 1:
                self._ring.keep(RingEntry(tick, dict(tables), size))
                self._believe(tick.batch)
        if (tick.epoch, tick.batch) > (current, self._newest):
            if self._hint is None:
                self._hinted_at = time.monotonic()
            self._hint = max(self._hint or (0, 0), (tick.epoch, tick.batch))
            self._doubt.set()
        self._moved.set()

    async def history_other_than(self, history: str | None) -> str:
        """Wait until the log is known to be of another history than this one, and return it."""
        while self._history is None or self._history == history:
            self._moved.clear()
            await self._moved.wait()
        return self._history

    async def wait_beyond(self, position: Position) -> None:
        """Wait until a batch after a position is known, or the position was taken back."""
        while position.batch == self._newest and self._epochs.holds(position.epoch, position.batch):
            self._moved.clear()
            await self._moved.wait()

    async def read(self, after: Cursor, upto: int, subscriptions: Subscriptions) -> Sequence[Batch]:
        """Read the whole batches after a cursor, in order, as far as one portion goes.

        Their content is that of the wanted tables. Raises `DatabaseUnavailableError`. An empty
        answer means that the read database has not got them yet, or that the place to read from was
        taken back meanwhile.
        """
        start = position_at(after).batch
        upto = min(upto, self._newest)
        batches = self._ring.read(start, upto, subscriptions)
        if not batches:
            batches = self._read_again(start, upto, subscriptions)
        if not batches and upto > start:
            batches = await self._read_outbox(start, upto, subscriptions)
            if self.is_taken_back(after):
                return []
        return batches

    def survives(self, batches: Sequence[Batch]) -> bool:
        """Whether none of these batches was taken back since they were read."""
        return all(
            batch.id <= self._newest and self._epochs.holds(batch.epoch, batch.id)
            for batch in batches
        )

    async def image_bytes(self, seqs: Collection[int]) -> Mapping[int, int]:
        """Measure the images of changes in the outbox, in bytes by seq.

        Raises `DatabaseUnavailableError`.
        """
        with unavailable_as_ours():
            async with own_session(self._pool) as connection:
                return await outbox.image_bytes(connection, seqs)

    async def whole_images(
        self, seqs: Collection[int]
    ) -> Mapping[tuple[int, int], tuple[bytes | None, bytes | None]]:
        """Fetch row images that were too large for the bus, by table and seq.

        Raises `DatabaseUnavailableError`.
        """
        with unavailable_as_ours():
            async with own_session(self._pool) as connection:
                return await outbox.whole_images(connection, seqs)

    def _read_again(self, start: int, upto: int, subscriptions: Subscriptions) -> list[Batch]:
        """Return what was read from the outbox a moment ago, and what the ring has after it."""
        batches = self._recent.read(
            start,
            upto,
            tables=subscriptions.tables,
            relids=subscriptions.relids,
            now=time.monotonic(),
        )
        if not batches or not self.survives(batches):
            return []
        return batches + self._ring.read(batches[-1].id, upto, subscriptions)

    async def _read_outbox(
        self, after: int, upto: int, subscriptions: Subscriptions
    ) -> list[Batch]:
        tables, relids = subscriptions.tables, subscriptions.relids  # more may come meanwhile
        with unavailable_as_ours():
            async with own_session(self._pool) as connection:
                batches = await outbox.read_batches(
                    connection,
                    after=after,
                    upto=upto,
                    tables=tables,
                    relids=relids,
                    most_batches=ring.MOST_BATCHES_A_READ,
                    most_changes=ring.MOST_CHANGES_A_READ,
                    most_bytes=ring.MOST_BYTES_A_READ,
                    max_record_bytes=self._max_record_bytes,
                )
        self._metrics.outbox_reads.inc()
        if batches and batches[0].id == after + 1 and self.survives(batches):
            self._confirm(batches[-1].id)
            self._recent.keep(batches, tables=tables, relids=relids, now=time.monotonic())
            return batches
        # The read database is behind, or what was next has been rotated away, or an epoch began.
        await self.refresh()
        return []

    def _distrust(self, batch: int) -> None:
        """Leave a batch of which two ticks say different things to the outbox."""
        log.warning("two ticks of one batch differ", batch=batch)
        self._ring.drop(lambda entry: entry.tick.batch >= batch)
        self._believe(max(self._confirmed, min(self._newest, batch - 1)))

    def _confirm(self, batch: int) -> None:
        self._confirmed = max(self._confirmed, batch)
        self._believe(max(self._newest, batch))

    def _believe(self, newest: int) -> None:
        if newest > self._confirmed and self._unconfirmed is None:
            self._unconfirmed = (newest, time.monotonic())
        self._newest = newest
        self._floor = cursor_at(Position(self._epochs.current, self._epochs.current_start, 0))
        self._ceiling = cursor_at(Position(self._epochs.current, newest))

    def _check_unconfirmed(self, last_batch: int) -> None:
        """Take back what only ticks vouch for, if the read database does not have it for long."""
        if self._unconfirmed is None:
            return
        number, since = self._unconfirmed
        if last_batch >= number:
            ahead = self._newest > last_batch
            self._unconfirmed = (self._newest, time.monotonic()) if ahead else None
        elif time.monotonic() - since > _MOST_UNCONFIRMED_SECONDS:
            log.warning("announced batches never came", announced=self._newest, last=last_batch)
            self._ring.drop(lambda entry: entry.tick.batch > last_batch)
            self._confirmed = last_batch
            self._unconfirmed = None
            self._believe(last_batch)

    def _settle(self) -> None:
        """End the doubt about announced numbers: they are there, or they are forgotten."""
        hint = self._hint
        if hint is None or hint <= (self._epochs.current, self._newest):
            self._hint = None
            self._doubt.clear()
        elif time.monotonic() - self._hinted_at >= _DOUBT_SECONDS:
            log.info("announced batch is not in the outbox", epoch=hint[0], batch=hint[1])
            self._hint = None
            self._doubt.clear()
