"""How often in a row something has failed without a known cause.

Questions overlap: a table is asked about for live streams and in lanes at once, and one question
may be asked in two sessions. What makes one of them fail makes all of them fail, so questions that
were under way when a failure was counted add nothing to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

_MOST_KEPT: Final = 10_000
_LASTING_SECONDS: Final = 60.0


class Strikes:
    """Failures by key; times are seconds of a monotonic clock.

    What is asked about is known by numbers. Only an answer about what failed last forgives: others,
    about other changes or another part of the same question, say nothing of it. Failures that are
    `_LASTING_SECONDS` old no longer count: perhaps nobody wants to know any more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._struck: dict[Hashable, _Struck] = {}

    def count(self, key: Hashable, *, began: float, now: float, about: int | None = None) -> None:
        """Count the failure, at `now`, of what began at `began`."""
        struck = self._struck.get(key)
        if struck is None or struck.at + _LASTING_SECONDS < began:
            if len(self._struck) >= _MOST_KEPT:
                self._struck.clear()
            self._struck[key] = _Struck(1, now, about)
        elif began > struck.at:
            self._struck[key] = _Struck(struck.times + 1, now, about)

    def is_out(self, key: Hashable, now: float) -> bool:
        """Whether it has failed as often as it may."""
        struck = self._struck.get(key)
        return (
            struck is not None
            and struck.times >= self._most
            and now <= struck.at + _LASTING_SECONDS
        )

    def forgive(self, key: Hashable, about: Iterable[int | None] = (None,)) -> None:
        """Forget the failures if one of these is what failed last; it has been answered."""
        struck = self._struck.get(key)
        if struck is not None and struck.about in about:
            del self._struck[key]


@dataclass(frozen=True, slots=True)
class _Struck:
    times: int
    at: float
    about: int | None
