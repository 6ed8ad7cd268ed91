"""How long changes gather before the next read.

A batch costs Postgres and the relay about the same whatever is in it, so under load fewer and
larger batches are read: in proportion to the rate of changes, up to a bound. At rest nothing waits.
A relay also leaves the writers as much time as its last step took, so a slow server gets larger
batches.
"""

from __future__ import annotations

import math
from typing import Final

LEAST_SECONDS: Final = 0.002
MOST_SECONDS: Final = 0.02
FULL_RATE: Final = 4_000.0
"""The rate of changes a second from which on the wait is the longest."""

_MEMORY_SECONDS: Final = 0.25


class Pace:
    """The wait after a batch, by the rate of changes in about the last quarter of a second."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._at = float("-inf")

    def next_seconds(self, changes: int, step_seconds: float, now: float) -> float:
        """Count a batch that took `step_seconds`, at the time `now`; return the wait after it."""
        faded = math.exp((self._at - now) / _MEMORY_SECONDS)
        self._rate = self._rate * faded + changes / _MEMORY_SECONDS
        self._at = now
        wanted = MOST_SECONDS * self._rate / FULL_RATE
        return min(max(wanted, step_seconds, LEAST_SECONDS), MOST_SECONDS)
