"""How often in a row something has failed without a known cause.

Questions overlap: a table is asked about for live streams and in lanes at once, and one question
may be asked in two sessions. What makes one of them fail makes all of them fail, so questions that
were under way when a failure was counted add nothing to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

_MOST_KEPT: Final = 10_000


class Strikes:
    """Failures by key; times are seconds of a monotonic clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._struck: dict[Hashable, tuple[int, float]] = {}

    def count(self, key: Hashable, *, began: float, now: float) -> None:
        """Count the failure, at `now`, of what began at `began`."""
        strikes, at = self._struck.get(key, (0, began - 1))
        if began > at:
            if len(self._struck) >= _MOST_KEPT:
                self._struck.clear()
            self._struck[key] = strikes + 1, now

    def is_out(self, key: Hashable) -> bool:
        """Whether it has failed as often as it may."""
        return self._struck.get(key, (0, 0.0))[0] >= self._most

    def forgive(self, key: Hashable) -> None:
        """Forget the failures: all of a question has been answered."""
        self._struck.pop(key, None)
