"""Writing past the server, where nothing stands between a stream and its socket.

A write through the server's `send` takes a dictionary, a coroutine, the framing of the chunk, and
the transport's queue; all of it is the same for each of ten thousand clients, and costs twice what
the system call does. After the head of a response, a chunked body over plain TCP is nothing
but chunks. So the chunk is made once, and written to the descriptor of each socket.

What makes it right:

* Order. The transport is empty when a stream is written to directly (`is_clear`). What the socket
  refuses is left to the transport, and nothing is written directly until it has been taken
  (`finish`), nor while the connection is blocked for another reason.
* The head. It goes out with the first chunk, in one packet, and is what the server would have sent.
* Whole chunks. A chunk is written in full, or its rest goes to the transport at once. Dropping what
  is pending drops whole chunks.
* The right socket. `fd` becomes invalid before the transport closes it, so a write fails and never
  reaches a connection that was given the same number since.
* Backpressure and bounds stay those of `Connection`: the rest is what one write has left, all else
  is pending there.

With TLS, or HTTP/1.0, there is no wire, and all bytes go through `send`. Tests write the same to
both and compare.
"""

from __future__ import annotations

from typing import Protocol


class Wire(Protocol):
    """A socket that can be written to directly."""

    fd: int
    """Its descriptor, -1 once it is lost."""

    head: bytes
    """The head of the response, until it is written with the first chunk."""

    def is_clear(self) -> bool:
        """Whether the server has nothing of its own left to write."""

    async def finish(self, data: bytes | memoryview) -> None:
        """Leave to the server what the socket refused, and wait until it has been taken."""
