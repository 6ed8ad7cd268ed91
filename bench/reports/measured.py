"""What repetitions of a measurement gave: their median, and how far they spread."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Measured:
    """The median of some repetitions, with their quartiles."""

    median: float
    low: float
    """A quarter of the repetitions gave less."""
    high: float
    """A quarter of the repetitions gave more."""
    samples: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Sum up repetitions; raises `ValueError` if there are none."""
        if not values:
            raise ValueError("nothing was measured")
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles."""
        return (self.high - self.low) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
