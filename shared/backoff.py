"""How long to wait before the next try."""

from __future__ import annotations

import random


class Backoff:
    """Exponential waiting times with equal jitter, in seconds.

    Each wait is drawn from the upper half of the bound ("equal jitter"), which spreads a herd;
    see Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, *, first_seconds: float = 0.05, most_seconds: float = 5.0) -> None:
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._failures = 0

    def reset(self) -> None:
        """Start over after a success."""
        self._failures = 0

    def next_seconds(self) -> float:
        """Count a failure and return how long to wait, in seconds."""
        bound = min(self._most_seconds, self._first_seconds * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return bound * (0.5 + random.random() / 2)  # noqa: S311 (spreading, not secrecy)
