"""TCP ports of loopback: finding one, and checking one.

Processes that look for ports at the same time (groups of tests, development stacks) must not find
the same one: a port is bound by its server some time after it was found, and is free again while
that server restarts. So a process claims the port it found until it ends, by a lock on the byte of
that number in a file that all processes of one user share.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from contextlib import closing
from functools import cache
from itertools import cycle, islice
from pathlib import Path

from shared.errors import OperatorError

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
"""Below what Linux (32768) and others (49152) lend, above what browsers refuse (10080)."""

_ports = cycle(random.sample(_PORTS, len(_PORTS)))


def free_port() -> int:
    """Find a port of loopback that is not in use, and claim it for this process.

    Each call returns another port. It is never one that the system lends to outgoing connections:
    such a connection could take it while its server starts or restarts. Raises `OperatorError` if
    no port is left.
    """
    for port in islice(_ports, len(_PORTS)):
        if _claim(port) and _is_free(port):
            return port
    raise OperatorError(f"no port of {HOST} is free between {_PORTS.start} and {_PORTS.stop}")


def check_port(port: int, *, purpose: str, setting: str | None = None) -> None:
    """Raise `OperatorError` if another process listens on this port of loopback."""
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            hint = f"; end what uses it, or set {setting} to another port" if setting else ""
            raise OperatorError(
                f"port {port} for {purpose} cannot be used ({error.strerror}){hint}"
            ) from None


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    try:
        fcntl.lockf(_claims_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _claims_file() -> int:
    """Open the file of claims; it stays open, since closing it would give up every claim."""
    path = Path(tempfile.gettempdir()) / f"ayb-ports-{os.getuid()}.lock"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise OperatorError(f"{path} cannot be opened ({error.strerror}): remove it") from None
