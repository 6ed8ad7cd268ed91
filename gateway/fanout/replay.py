"""Replay: connections that are behind the live stream are brought up to it, together.

Behind are clients that come back with a position, live ones whose socket was full for too long, and
those of a table with a burst, which must hold up nobody else (`gateway.fanout.hub`). All of them
are replayed to in rounds: a round reads the batches after the one furthest behind, asks one
question per table for the whole group, and tells each connection only what lies behind its own
position. So ten thousand clients that come back at once cost a handful of queries. One that cannot
take more is left out until its socket is empty again; that is its backpressure.

Who waits is served by how far behind he stands, so that somebody who was away for a day delays
nobody who was away for a second: those close to the live stream, and those near it, in every round;
those far behind in groups that stand close together, one in a round. And who comes later waits for
his turn (`gateway.fanout.fair_turns`): were he taken along at once, every round would begin where
the latest one stands, and with enough newcomers nobody would ever arrive.

Handover: near the end a round runs while the hub stands still between two rounds of its own. Then
`current` does not move, the last portion ends exactly there, and the connection joins the live
stream at that same batch: no gap, and since every connection knows how far it has been told, no
repetition.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from gateway.fanout.fair_turns import FairTurns
from gateway.fanout.subscriptions import Subscriptions
from gateway.streams import sse
from shared.backoff import Backoff
from shared.errors import DatabaseUnavailableError
from shared.position import WHOLE, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.delivery import Delivery
    from gateway.fanout.hub import Hub
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Connection

log = structlog.get_logger(__name__)

_HANDOVER_BATCHES: Final = 32
_NEAR_BATCHES: Final = 500
_LINGER_SECONDS: Final = 0.002
_MOST_LINGER_SECONDS: Final = 0.1


class Replayer:
    """Replays to connections until they can join the hub."""

    def __init__(
        self, *, hub: Hub, backlog: Backlog, delivery: Delivery, metrics: GatewayMetrics
    ) -> None:
        self._hub = hub
        self._backlog = backlog
        self._delivery = delivery
        self._metrics = metrics
        self._waiting: dict[Connection, dict[str, int]] = {}
        self._wake = asyncio.Event()
        self._close: FairTurns[Connection] = FairTurns()
        self._near: FairTurns[Connection] = FairTurns()
        self._served_from = -1

    def __len__(self) -> int:
        return len(self._waiting)

    def connections(self) -> list[Connection]:
        """The connections that are being replayed to."""
        return list(self._waiting)

    def add(self, connection: Connection, relids: dict[str, int]) -> None:
        """Replay to a connection what lies behind its `order`, then make it live."""
        self._waiting[connection] = relids
        self._wake.set()

    def discard(self, connection: Connection) -> None:
        """Forget a connection."""
        self._waiting.pop(connection, None)

    async def run(self) -> None:
        """Replay for ever."""
        backoff = Backoff(first_seconds=0.02, most_seconds=1.0)
        while True:
            await self._wake.wait()
            ready = self._ready()
            if not ready:
                self._wake.clear()
                continue
            moved = False
            groups = self._groups(ready)
            try:
                for group in groups:
                    moved |= await self._round(group)
            except* DatabaseUnavailableError as errors:
                log.warning("replay waits", error=str(errors.exceptions[0]))
            if moved:
                backoff.reset()
                await asyncio.sleep(self._linger_seconds(groups))
            else:
                await asyncio.sleep(backoff.next_seconds())

    def _linger_seconds(self, groups: Sequence[Sequence[Connection]]) -> float:
        """Leave time to the live stream, and to a herd for gathering.

        One question for many costs hardly more than one for a few. So where all have joined the
        live stream, and they were many, more are awaited before the next question.
        """
        served = [connection for group in groups for connection in group]
        if any(connection in self._waiting for connection in served):
            return _LINGER_SECONDS
        return min(_MOST_LINGER_SECONDS, _LINGER_SECONDS * len(served))

    def _groups(self, ready: Sequence[Connection]) -> list[list[Connection]]:
        """Choose who is served in this round."""
        close: list[Connection] = []
        near: list[Connection] = []
        far: list[Connection] = []
        for connection in ready:
            behind = self._hub.current - _batch_after(connection.order)
            if behind <= _HANDOVER_BATCHES:
                close.append(connection)
            elif behind <= _NEAR_BATCHES:
                near.append(connection)
            else:
                far.append(connection)
        groups = [self._close.of(close), self._near.of(near)]
        if far:
            far.sort(key=lambda connection: connection.order)
            behind_last = [c for c in far if _batch_after(c.order) > self._served_from]
            first = (behind_last or far)[0]
            start = self._served_from = _batch_after(first.order)
            groups.append(
                [c for c in far if start <= _batch_after(c.order) <= start + _NEAR_BATCHES]
            )
        return [group for group in groups if group]

    def _ready(self) -> list[Connection]:
        ready = []
        for connection in self._waiting:
            if connection.is_blocked:
                connection.when_drained(self._drained)
            elif connection.is_open:
                ready.append(connection)
        return ready

    def _drained(self, _connection: Connection) -> None:
        self._wake.set()

    async def _round(self, group: Sequence[Connection]) -> bool:
        after = _batch_after(min(connection.order for connection in group))
        if self._hub.current - after > _HANDOVER_BATCHES:
            return await self._portion(group, after)
        async with self._hub.rounds:
            moved = await self._portion(group, after)
            end = Position(1, self._hub.current).order
            for connection in group:
                relids = self._waiting.get(connection)
                if relids is not None and connection.is_open and connection.order >= end:
                    del self._waiting[connection]
                    self._hub.join(connection, relids)
            return moved

    async def _portion(self, group: Sequence[Connection], after: int) -> bool:
        upto = self._hub.current
        if after >= upto:
            return True
        subscriptions = Subscriptions()
        for connection in group:
            relids = self._waiting.get(connection)
            if relids is not None:
                subscriptions.add(connection, relids)
        batches = await self._backlog.read(after, upto, subscriptions)
        if not batches:
            if not self._backlog.is_gone(after + 1):
                return False
            self._give_up(group)
            return True
        dispatches = await self._delivery.judge(batches, subscriptions)
        told = await self._delivery.write(dispatches)
        self._metrics.replayed.inc(told)
        reached = Position(1, batches[-1].id).order
        for connection in group:
            connection.order = max(connection.order, reached)
        return True

    def _give_up(self, group: Sequence[Connection]) -> None:
        """Tell those whose next batch has been rotated away to fetch afresh."""
        position = self._hub.position
        for connection in group:
            if self._backlog.is_gone(_batch_after(connection.order) + 1):
                connection.order = position.order
                connection.write(sse.resync_frame(position, "expired", connection.tables))


def _batch_after(order: int) -> int:
    """Name the batch behind which reading must begin for a connection that stands at `order`."""
    batch, index = order >> 31, order & WHOLE
    return batch if index == WHOLE else batch - 1
