"""Stopping without hurting anybody: not ready, no new streams, and the open ones ended in turn."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from gateway.streams import sse
from gateway.streams.connection import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.streams.connection import Connection

log = structlog.get_logger(__name__)

_STEP_SECONDS = 0.05
_READINESS_SHARE = 0.1


class Drain:
    """Whether this gateway stops, and how its streams end.

    The streams are closed evenly over the drain time, each told to come back after a random delay,
    so that the remaining gateways take them over bit by bit. A first part of the time is left for
    the load balancer to notice that this gateway is not ready any more.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._draining = False

    @property
    def is_draining(self) -> bool:
        """Whether the gateway has begun to stop."""
        return self._draining

    async def run(self, connections: Callable[[], Sequence[Connection]]) -> None:
        """Close all streams within the drain time."""
        self._draining = True
        open_at_first = len(connections())
        log.info("draining", streams=open_at_first, seconds=self._seconds)
        if not open_at_first:
            return
        await asyncio.sleep(self._seconds * _READINESS_SHARE)
        steps = max(1, round(self._seconds * (1 - 2 * _READINESS_SHARE) / _STEP_SECONDS))
        for step in range(steps, 0, -1):
            remaining = list(connections())
            if not remaining:
                return
            for connection in remaining[: -(-len(remaining) // step)]:
                self._end(connection)
            await asyncio.sleep(_STEP_SECONDS)
        for connection in connections():
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        retry_milliseconds = random.randint(200, 3_000)  # noqa: S311 (spreading, not secrecy)
        connection.write(sse.closing_frame(retry_milliseconds))
        connection.close(CloseReason.DRAINED)
