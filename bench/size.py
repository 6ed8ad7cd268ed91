"""How long and how large a benchmark is to run."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class Size(Enum):
    """`FULL` is published, `QUICK` repeats less often, `SMOKE` only shows that a module works."""

    FULL = "full"
    QUICK = "quick"
    SMOKE = "smoke"

    def pick(self, *, full: T, quick: T, smoke: T) -> T:
        """Return the value for this size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.SMOKE: smoke}[self]
