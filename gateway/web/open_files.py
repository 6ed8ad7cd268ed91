"""The limit of open files, and what it is spent on.

Each connection is a file, and a login shell's 1,024 are soon used up. A process without a free file
cannot even connect to Postgres again. So the gateway raises its limit as far as it may, keeps some
files for itself, and divides the rest: streams, and connections that are none (yet).
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_OTHERS: Final = 200
"""Files besides streams: the pool, Redis, listening sockets, and connections without a stream."""

_OWN: Final = 100
_REQUESTS: Final = 50
"""Connections that always remain for requests that are no streams, and for refusing those."""


@dataclass(frozen=True, slots=True)
class FileBudget:
    """How many streams, and how many connections with and without a stream, there may be."""

    streams: int
    connections: int


def allow_streams(streams: int) -> FileBudget:
    """Raise the soft limit as far as so many streams need and the hard limit permits.

    If that is too low, the log says so, and fewer streams are allowed.
    """
    wanted = streams + _OTHERS
    files = min(_raised_limit(wanted), wanted)
    if files < wanted:
        log.warning(
            "fewer files may be open than streams are allowed",
            files=files,
            streams=streams,
            remedy="raise the limit (ulimit -n), or lower AYB_REALTIME_MAX_CONNECTIONS",
        )
    return divide(files, streams)


def divide(files: int, streams: int) -> FileBudget:
    """Divide the files of the process; with very few, streams still get some."""
    connections = max(files - _OWN, files // 2, 1)
    room = min(_REQUESTS, connections // 2)
    return FileBudget(streams=min(streams, connections - room), connections=connections)


def _raised_limit(wanted: int) -> int:
    """Return how many files may be open, after raising the limit to `wanted` if it is lower."""
    if sys.platform == "win32":
        return wanted
    import resource  # noqa: PLC0415 (not on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    reached = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    with contextlib.suppress(ValueError, OSError):  # refused: the soft limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
        soft = reached
    return soft
