"""The socket of a stream, written to directly: see `gateway.streams.wire` for what relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from asyncio import Transport
    from collections.abc import Sequence

    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    Headers = Sequence[tuple[bytes, bytes]]

_NONE = -1


class SocketWire:
    """Implements `gateway.streams.wire.Wire` on a transport of the server.

    The descriptor is the transport's. A number that was closed may be given to another connection,
    whose client would get what is written to it. So `lose` must be called before the transport
    closes it, which is when the protocol's `connection_lost` is called; from then on each write
    fails.
    """

    __slots__ = ("_flow", "_transport", "fd", "head")

    def __init__(self, transport: Transport, flow: FlowControl, fd: int, head: bytes) -> None:
        self.fd = fd
        self.head = head
        self._transport = transport
        self._flow = flow
        # The transport holds only what the socket refuses, and says when that has been taken.
        transport.set_write_buffer_limits(high=0)

    @classmethod
    def begin(cls, cycle: RequestResponseCycle, headers: Headers) -> SocketWire | None:
        """Begin a response, whose head is written with its first chunk, as one packet.

        Return None if the server must send all of it: with TLS, whose records the transport makes,
        for a response without chunks, and behind an earlier response that is not written yet.
        """
        transport = cycle.transport
        sock = transport.get_extra_info("socket")
        if (
            sock is None
            or transport.get_extra_info("sslcontext") is not None
            or transport.is_closing()
            or transport.get_write_buffer_size() > 0
            or cycle.response_started
            or cycle.scope["http_version"] != "1.1"
        ):
            return None
        cycle.response_started = True
        cycle.waiting_for_100_continue = False  # else it would be answered within the stream
        cycle.chunked_encoding = True
        return cls(transport, cycle.flow, sock.fileno(), _head(cycle, headers))

    def is_clear(self) -> bool:
        """Whether the server has nothing of its own left to write."""
        return self._transport.get_write_buffer_size() == 0

    async def finish(self, data: bytes | memoryview) -> None:
        """Leave to the server what the socket refused, and wait until it has been taken."""
        self._transport.write(data)
        await self._flow.drain()

    def lose(self) -> None:
        """Forget the descriptor: it is about to be closed."""
        self.fd = _NONE


def _head(cycle: RequestResponseCycle, headers: Headers) -> bytes:
    """Write the head of a chunked response as the server would: its own headers come first."""
    lines = [STATUS_LINE[200]]
    for name, value in (*cycle.default_headers, *headers):
        lines += name, b": ", value, b"\r\n"
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    lines.append(b"transfer-encoding: chunked\r\n\r\n")
    return b"".join(lines)
