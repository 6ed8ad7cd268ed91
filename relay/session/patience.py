"""How long another relay must have been the better one before it gets the lead.

A relay with a higher priority can be ready and yet fail each time it leads, for instance because
its login lacks a right. Handing it the lead every few seconds would cost all clients a pause each
time. So a hand-over that does not last doubles the patience before the next one.
"""

from __future__ import annotations

from typing import Final

FIRST_SECONDS: Final = 5.0
MOST_SECONDS: Final = 600.0
LASTING_SECONDS: Final = 60.0
"""A hand-over lasts if the lead does not come back to this relay within this time."""


class Patience:
    """The patience of one relay, for as long as its process runs; times are seconds."""

    def __init__(self) -> None:
        self._short_ones = 0
        self._handed_over_at: float | None = None

    @property
    def seconds(self) -> float:
        """How long another relay must have been the better one."""
        return min(FIRST_SECONDS * 2.0 ** min(self._short_ones, 30), MOST_SECONDS)

    def on_hand_over(self, now: float) -> None:
        """Count a hand-over to a better relay."""
        self._handed_over_at = now

    def on_lead(self, now: float) -> None:
        """Count that this relay took the lead: the last hand-over was short, or it lasted."""
        if self._handed_over_at is not None:
            is_short = now - self._handed_over_at < LASTING_SECONDS
            self._short_ones = self._short_ones + 1 if is_short else 0
            self._handed_over_at = None
