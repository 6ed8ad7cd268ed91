"""The socket of a stream, written to directly: see `gateway.streams.wire` for what relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Transport

    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_NONE = -1


class SocketWire:
    """Implements `gateway.streams.wire.Wire` on a transport of the server.

    The descriptor is the transport's. A number that was closed may be given to another connection,
    whose client would get what is written to it. So `lose` must be called before the transport
    closes it, which is when the protocol's `connection_lost` is called; from then on each write
    fails.
    """

    __slots__ = ("_flow", "_transport", "fd")

    def __init__(self, transport: Transport, flow: FlowControl, fd: int) -> None:
        self.fd = fd
        self._transport = transport
        self._flow = flow
        # The transport holds only what the socket refuses, and says when that has been taken.
        transport.set_write_buffer_limits(high=0)

    @classmethod
    def of(cls, cycle: RequestResponseCycle) -> SocketWire | None:
        """Return the wire of a response that has begun, None if it must go through the server.

        That is so with TLS, whose records the transport makes, and for a response without chunks.
        """
        transport = cycle.transport
        sock = transport.get_extra_info("socket")
        if (
            sock is None
            or transport.get_extra_info("sslcontext") is not None
            or transport.is_closing()
            or not cycle.response_started
            or not cycle.chunked_encoding
            or cycle.response_complete
        ):
            return None
        return cls(transport, cycle.flow, sock.fileno())

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
