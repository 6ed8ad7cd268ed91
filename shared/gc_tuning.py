"""How often the interpreter looks for reference cycles."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 10, 10)


def collect_rarely() -> None:
    """Let the cyclic collector run by tens of thousands of objects instead of hundreds.

    It looks at what lives, and ten thousand streams are much: by its defaults (700, 10, 10)
    it took 40 % of a gateway's time while they connected. What is there now (modules, settings) it
    need never look at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
