"""How many bytes of a response its peer has not acknowledged yet."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return what waits in the server and in the kernel, in bytes.

    The server's part alone says little about a slow peer: the kernel asks for more only when a
    third of its buffer is free, which may be megabytes (TIOCOUTQ of a TCP socket is SIOCOUTQ, see
    tcp(7); where there is no such thing, the server's part has to do).
    """
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):
            answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
            waiting += struct.unpack("i", answer)[0]
    return waiting
