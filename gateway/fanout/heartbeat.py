"""Signs of life, the end of expired streams, and what was missed: one sweep for all connections.

A connection misses changes of a table while its policies fail or take too long for it: it gets an
error frame, and none of the changes. A failure is not a denial. So the connection gets `resync` for
the table after a minute, when slow users are judged again, and repeatedly while it goes on missing
changes. Until then nothing that it is sent moves its position, neither heartbeats nor events: if
the client reconnects, the changes are judged again, and those events repeated.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from gateway.streams import sse
from gateway.streams.cursor import cursor_at, position_at

if TYPE_CHECKING:
    from gateway.fanout.backlog import Backlog
    from gateway.fanout.hub import Hub
    from gateway.fanout.replay import Replayer
    from gateway.streams.connection import Connection

_SWEEP_SECONDS: Final = 0.5
_MAKE_GOOD_AFTER_SECONDS: Final = 61.0
"""Longer than a user whose policies are slow is set aside."""


class Heartbeat:
    """Keeps idle streams awake; `seconds` is how long one may be silent."""

    def __init__(self, *, hub: Hub, replayer: Replayer, backlog: Backlog, seconds: float) -> None:
        self._hub = hub
        self._replayer = replayer
        self._backlog = backlog
        self._seconds = seconds

    async def run(self) -> None:
        """Sweep until cancelled.

        A stream gets its position, so that a client that was idle for hours can still come back;
        one whose position was just taken back gets none. A client that joined during a round stands
        further than the hub has delivered, and is not sent back; one that is not live stands where
        its lane has brought it.
        """
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            delivered = cursor_at(self._hub.delivered)
            frame = sse.heartbeat_frame(self._hub.delivered)
            for connection in self._idle(self._hub.connections()):
                cursor = max(connection.cursor, delivered)
                if connection.has_missed or self._backlog.is_taken_back(cursor):
                    connection.write(sse.HEARTBEAT)
                    continue
                connection.cursor = cursor
                connection.write(
                    frame if cursor == delivered else sse.heartbeat_frame(position_at(cursor))
                )
            for connection in self._idle(self._replayer.connections()):
                if connection.has_missed or self._backlog.is_taken_back(connection.cursor):
                    connection.write(sse.HEARTBEAT)
                else:
                    connection.write(sse.heartbeat_frame(position_at(connection.cursor)))

    def _idle(self, connections: list[Connection]) -> list[Connection]:
        """Return the connections that were silent for long; expire and make good what is due."""
        now, clock = time.monotonic(), time.time()
        idle = []
        for connection in connections:
            if connection.has_missed:
                connection.make_good(missed_before=now - _MAKE_GOOD_AFTER_SECONDS)
            if connection.expires_at is not None and connection.expires_at <= clock:
                connection.expire()
            elif now - connection.wrote_at >= self._seconds:
                idle.append(connection)
        return idle
