"""How often the interpreter looks for reference cycles."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 10, 10)


def collect_rarely() -> None:
    """Run the cyclic collector after tens of thousands of new objects instead of hundreds.

    It visits every live object, and ten thousand streams have many: with the defaults (700, 10, 10)
    it took 40 % of a gateway's time while they connected. What exists now (modules, settings) is
    never visited again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
