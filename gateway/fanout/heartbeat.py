"""Signs of life, and the end of streams whose token has expired: one sweep for all of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from gateway.streams import sse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.fanout.hub import Hub
    from gateway.fanout.replay import Replayer
    from gateway.streams.connection import Connection

_SWEEP_SECONDS: Final = 0.5


class Heartbeat:
    """Keeps idle streams awake; `seconds` is how long one may be silent."""

    def __init__(self, *, hub: Hub, replayer: Replayer, seconds: float) -> None:
        self._hub = hub
        self._replayer = replayer
        self._seconds = seconds

    async def run(self) -> None:
        """Sweep for ever.

        A live stream is told its position, so that a client that was idle for hours can still come
        back; one that is being replayed to gets a comment.
        """
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._sweep(self._hub.connections(), sse.position_frame(self._hub.delivered))
            self._sweep(self._replayer.connections(), sse.PING)

    def _sweep(self, connections: Iterable[Connection], frame: bytes) -> None:
        now, clock = time.monotonic(), time.time()
        for connection in connections:
            if connection.expires_at is not None and connection.expires_at <= clock:
                connection.expire()
            elif now - connection.wrote_at >= self._seconds:
                connection.write(frame)
