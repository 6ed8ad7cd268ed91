"""Stopping without losing a client.

    state      readiness   new streams   open streams
    serving    ready       accepted      served
    leaving    not ready   accepted      served           for the drain delay
    draining   not ready   refused       closed in turn   for the drain time

A gateway leaves its load balancer before it refuses anything: balancers look at readiness only now
and then, and send it clients until they do.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from gateway.streams import sse
from gateway.streams.connection import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.streams.connection import Connection

log = structlog.get_logger(__name__)

_STEP_SECONDS: Final = 0.05
_CLOSING_SHARE: Final = 0.9
"""The share of the drain time in which streams are closed; the rest is for their last bytes."""


class Drain:
    """Whether this gateway stops, and how its streams end.

    They are closed evenly over the drain time, each with a random reconnection time, so that the
    remaining gateways take them over bit by bit.
    """

    def __init__(self, *, seconds: float, delay_seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._delay_seconds = delay_seconds
        self._is_stopping = False
        self._is_refusing = False

    @property
    def is_stopping(self) -> bool:
        """Whether the gateway has been asked to stop, and is no longer ready."""
        return self._is_stopping

    @property
    def is_refusing(self) -> bool:
        """Whether new streams are refused."""
        return self._is_refusing

    async def run(
        self,
        connections: Callable[[], Sequence[Connection]],
        stop_accepting: Callable[[], None],
    ) -> None:
        """Leave the load balancer, stop accepting, and close all streams in the drain time."""
        self._is_stopping = True
        log.info(
            "leaving the load balancer", streams=len(connections()), seconds=self._delay_seconds
        )
        await asyncio.sleep(self._delay_seconds)
        self._is_refusing = True
        stop_accepting()
        log.info("draining", streams=len(connections()), seconds=self._seconds)
        steps = max(1, round(self._seconds * _CLOSING_SHARE / _STEP_SECONDS))
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
        connection.make_good()
        connection.write(sse.closing_frame(retry_milliseconds))
        connection.close(CloseReason.DRAINED)
