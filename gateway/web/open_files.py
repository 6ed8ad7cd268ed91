"""The limit of open files: each stream is one, and a login shell's 1,024 are soon used up."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_OTHERS: Final = 200
"""The pool, Redis, the listening socket, requests that are no streams, and some room."""


def allow_streams(streams: int) -> None:
    """Raise the soft limit as far as this many streams need and the hard one lets us.

    A process without a free file cannot even connect to Postgres again; so too low a hard limit is
    told at the start.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 (not on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = streams + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    reached = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    with contextlib.suppress(ValueError, OSError):  # refused: the soft limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
        soft = reached
    if soft < wanted:
        log.warning(
            "fewer files may be open than streams are allowed",
            files=soft,
            streams=streams,
            remedy="raise the limit (ulimit -n), or lower AYB_REALTIME_MAX_CONNECTIONS",
        )
