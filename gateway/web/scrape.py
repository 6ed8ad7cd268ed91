"""`/metrics`: what Prometheus reads.

Thousands of series take long to write out, so that is done in a thread, one scrape at a time; the
event loop, which all streams depend on, only sets the gauges that are read from elsewhere. The
series of tables that are gone are dropped first.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    import asyncpg

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.bus import Bus
    from gateway.fanout.hub import Hub
    from gateway.fanout.replay import Replayer
    from gateway.fanout.staleness_watch import StalenessWatch
    from gateway.metrics import GatewayMetrics
    from gateway.streams.limits import StreamLimits

    FindGone = Callable[[Collection[str]], Awaitable[set[str]]]

_PRUNED_APART_SECONDS: Final = 5.0
_PRUNE_SECONDS: Final = 1.0


class Scrape:
    """Writes the metrics out."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        metrics: GatewayMetrics,
        limits: StreamLimits,
        replayer: Replayer,
        hub: Hub,
        backlog: Backlog,
        bus: Bus,
        staleness: StalenessWatch,
        find_gone: FindGone,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._limits = limits
        self._replayer = replayer
        self._hub = hub
        self._backlog = backlog
        self._bus = bus
        self._staleness = staleness
        self._find_gone = find_gone
        self._clock = clock
        self._pruned_at = float("-inf")
        self._one_at_a_time = asyncio.Lock()

    async def text(self) -> bytes:
        """Return all series in the text format of Prometheus."""
        async with self._one_at_a_time:
            await self._prune()
            metrics = self._metrics
            metrics.open.set(self._limits.total)
            metrics.replaying.set(len(self._replayer))
            slow = self._replayer.slow
            metrics.streams.labels("live").set(self._hub.streams)
            metrics.streams.labels("replay").set(len(self._replayer) - slow)
            metrics.streams.labels("slow").set(slow)
            metrics.ring_bytes.set(self._backlog.ring_bytes)
            metrics.holding.set(self._hub.held is not None)
            metrics.read_database_place.set(self._pool.place)
            metrics.pushing.set(self._bus.is_pushing and not self._staleness.ticks_are_late)
            metrics.staleness_seconds.set(self._staleness.seconds)
            metrics.stale.set(self._staleness.is_stale)
            metrics.rival_relays.set(self._staleness.rivals is not None)
            return await asyncio.to_thread(generate_latest, metrics.registry)

    async def _prune(self) -> None:
        tables = self._metrics.visibility.tables
        if not tables or self._clock() - self._pruned_at < _PRUNED_APART_SECONDS:
            return
        self._pruned_at = self._clock()
        try:
            async with asyncio.timeout(_PRUNE_SECONDS):
                gone = await self._find_gone(tables)
        except (DatabaseUnavailableError, TimeoutError):
            return  # a later scrape will do
        if gone:
            await asyncio.to_thread(self._metrics.visibility.forget, gone)


def metrics_router(scrape: Scrape) -> APIRouter:
    """Build `/metrics`."""
    router = APIRouter(tags=["operations"])

    @router.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Return the metrics in the text format of Prometheus."""
        return Response(await scrape.text(), media_type=CONTENT_TYPE_LATEST)

    return router
