"""The plain HTTP around the stream: health, readiness, metrics."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.status import HTTP_503_SERVICE_UNAVAILABLE

from shared.postgres import UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import asyncpg

    from gateway.fanout.backlog import Backlog
    from gateway.fanout.bus import Bus
    from gateway.fanout.hub import Hub
    from gateway.fanout.replay import Replayer
    from gateway.metrics import GatewayMetrics
    from gateway.streams.drain import Drain
    from gateway.streams.limits import StreamLimits

    SpawnProbe = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]

_PROBE_SECONDS: Final = 2.0
_FRESH_SECONDS: Final = 0.5


class Readiness:
    """Whether the gateway may take traffic, and why not."""

    def __init__(
        self, *, pool: asyncpg.Pool, hub: Hub, bus: Bus, drain: Drain, spawn: SpawnProbe
    ) -> None:
        self._pool = pool
        self._hub = hub
        self._bus = bus
        self._drain = drain
        self._database: tuple[float, str] = (float("-inf"), "not asked yet")
        self._spawn = spawn
        self._probe: asyncio.Task[None] | None = None

    async def report(self) -> tuple[bool, dict[str, str]]:
        """Look at every part; polling the outbox instead of push is slower, but ready."""
        held = self._hub.held_because
        parts = {
            "database": await self._ask_database(),
            "stream": "ok" if self._hub.is_started else "waiting for the outbox",
            "events": f"held: {held}" if held is not None else "ok",
            "bus": "ok"
            if self._bus.is_pushing
            else "no ticks from relay or redis: polling the outbox",
            "drain": "draining" if self._drain.is_stopping else "ok",
        }
        if self._pool.refusal is not None:
            parts["new connections"] = self._pool.refusal
        ready = all(parts[name] == "ok" for name in ("database", "stream", "events", "drain"))
        return ready, parts

    async def _ask_database(self) -> str:
        asked_at, answer = self._database
        if time.monotonic() - asked_at < _FRESH_SECONDS:
            return answer
        if self._probe is None or self._probe.done():
            self._probe = self._spawn(self._ask())
        # A frozen server holds up even the end of a question; the answer here must not wait for it.
        done, _ = await asyncio.wait([self._probe], timeout=_PROBE_SECONDS)
        return self._database[1] if done else "unavailable: no answer"

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._pool.fetchval("SELECT 1")
            answer = "ok"
        except UNAVAILABLE as error:
            answer = f"unavailable: {str(error) or type(error).__name__}"
        self._database = (time.monotonic(), answer)


def operations_router(
    *,
    readiness: Readiness,
    metrics: GatewayMetrics,
    limits: StreamLimits,
    replayer: Replayer,
    hub: Hub,
    backlog: Backlog,
) -> APIRouter:
    """Build `/healthz`, `/readyz` and `/metrics`."""
    router = APIRouter()

    @router.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Tell that the process is alive."""
        return {"status": "ok"}

    @router.get(
        "/readyz",
        tags=["operations"],
        responses={HTTP_503_SERVICE_UNAVAILABLE: {"description": "Not ready; says why"}},
    )
    async def readyz() -> JSONResponse:
        """Tell whether this gateway may take traffic, and why not."""
        ready, parts = await readiness.report()
        status = "ready" if ready else "not ready"
        return JSONResponse(
            {"status": status, "parts": parts},
            status_code=200 if ready else HTTP_503_SERVICE_UNAVAILABLE,
        )

    @router.get("/metrics", tags=["operations"], response_class=Response)
    async def show_metrics() -> Response:
        """Show the metrics in the text format of Prometheus."""
        metrics.open.set(limits.total)
        metrics.replaying.set(len(replayer))
        metrics.ring_bytes.set(backlog.ring_bytes)
        metrics.holding.set(hub.held_because is not None)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
