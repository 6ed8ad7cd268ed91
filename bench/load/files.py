"""How many files, and so streams, a process of the benchmarks may have open."""

from __future__ import annotations

import resource
from typing import Final

_SPARE: Final = 500


def raise_file_limit() -> int:
    """Raise the limit of this process and its children as far as allowed, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def too_many_streams(streams: int) -> str | None:
    """Return why so many streams are not possible here, None if they are."""
    allowed = raise_file_limit()
    if allowed == resource.RLIM_INFINITY or allowed >= streams + _SPARE:
        return None
    return f"a process may open {allowed:,} files here (ulimit -Hn)"
