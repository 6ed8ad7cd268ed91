"""Room for newcomers: connections that ask for nothing make way.

A connection is idle from its beginning, and again after each answer, until the head of a request
is complete. Idle ones cost a file each, and anyone can open thousands. So connections have a bound,
and beyond it the one that has been idle the longest is closed; a stream never is.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Closable(Protocol):
    """A connection."""

    def drop(self) -> None:
        """Close it at once."""


class IdleConnections:
    """Which connections are idle, the longest idle first."""

    def __init__(self, *, most_connections: int) -> None:
        self._most_connections = most_connections
        self._idle: OrderedDict[Closable, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._idle)

    def add(self, connection: Closable) -> None:
        """A connection is idle from now on."""
        self._idle[connection] = None

    def discard(self, connection: Closable) -> None:
        """A connection is no longer idle, or gone."""
        self._idle.pop(connection, None)

    def make_room(self, connections: int) -> None:
        """Close the longest idle ones if there are so many connections; perhaps the newest too."""
        for _ in range(connections - self._most_connections):
            if not self._idle:
                return
            oldest, _ = self._idle.popitem(last=False)
            oldest.drop()
