"""HTTP/1.1 with bounds that uvicorn leaves open, over sockets that notice a vanished peer."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.streams.connection import WRITE_SECONDS
from gateway.web.small_event import SmallEvent
from gateway.web.unsent import unsent_bytes
from gateway.web.wire import SocketWire
from shared.postgres import keep_socket_alive

if TYPE_CHECKING:
    import asyncio
    from collections.abc import MutableMapping, Sequence

    from gateway.web.idle_connections import IdleConnections

STREAM_PATH: Final = "/api/realtime"

HEAD_SECONDS: Final = 20.0
PEER_SECONDS: Final = WRITE_SECONDS + 10
"""Later than the end of a stream whose peer takes nothing, which is counted under its own name."""

MOST_HEAD_BYTES: Final = 96 * 1024
"""A query of 48 KiB, a token of 16 KiB, and cookies of other applications."""

MOST_AHEAD: Final = 16
"""How many requests a client may send before the first is answered."""

_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\ncontent-length: 47\r\nconnection: close\r\n\r\n"
    b'{"code":431,"message":"request head too large"}'
)


class StreamProtocol(HttpToolsProtocol):
    """One connection.

    The head of a request may take `MOST_HEAD_BYTES` and `HEAD_SECONDS`. Requests that are sent
    before the previous one is answered are answered in turn, at most `MOST_AHEAD`. But nothing can
    follow a stream, which has no end, and whose client's end uvicorn would not notice then: such a
    request ends the connection. `scope["ayb.abort"]` cuts the socket: ASGI has no way to end a
    response whose peer takes nothing. `scope["ayb.unsent"]` returns how many bytes wait for the
    peer. `scope["ayb.wire"]` is called with the headers of a response of status 200. It begins the
    response, and returns its socket to be written to directly (`gateway.streams.wire`), or None if
    the response must go through the server, which has not begun it then.
    """

    # With more than 30 attributes in its dictionary, an object no longer shares the keys with the
    # others of its class (CPython's SHARED_KEYS_MAX_SIZE): 1,300 bytes more. uvicorn has 28.
    __slots__ = ("_head_bytes", "_head_timer", "_idle", "_wire")

    def __init__(self, *arguments: Any, idle: IdleConnections, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self._idle = idle
        self._wire: SocketWire | None = None
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self.pipeline = _Queue()  # type: ignore[assignment]

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the socket's options, and make room if there are too many connections."""
        super().connection_made(transport)
        self.flow._is_writable_event = SmallEvent(is_set=True)  # type: ignore[assignment]  # noqa: SLF001
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("peername"):
            notice_lost_peers(sock)
        self._await_head()
        self._idle.add(self)
        self._idle.make_room(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._wire is not None:
            self._wire.lose()
        self._end_head()
        self._idle.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse a head without end."""
        super().data_received(data)
        if self._head_timer is None and self._is_answered:
            self._await_head()
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                if self._is_answered:
                    self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Count what belongs to the head of another request."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._end_head()
        self._idle.discard(self)
        if not self._is_answered and (
            self.cycle.scope["path"] == STREAM_PATH or len(self.pipeline) >= MOST_AHEAD
        ):
            self.transport.abort()
            return
        self.scope["ayb.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self.scope["ayb.unsent"] = partial(  # type: ignore[typeddict-unknown-key]
            unsent_bytes, self.transport
        )
        super().on_headers_complete()
        self.cycle.message_event = SmallEvent()  # type: ignore[assignment]
        self.scope["ayb.wire"] = partial(self._open_wire, self.cycle)  # type: ignore[typeddict-unknown-key]
        if self.scope["http_version"] == "1.0":
            self.cycle.__class__ = CloseDelimitedCycle

    def on_response_complete(self) -> None:
        """Be idle until the next request."""
        if isinstance(self.parser, _NothingFollows):
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        super().on_response_complete()
        if self._is_answered and not self.transport.is_closing():
            self._idle.add(self)

    def _open_wire(
        self, cycle: RequestResponseCycle, headers: Sequence[tuple[bytes, bytes]]
    ) -> SocketWire | None:
        self._wire = SocketWire.begin(cycle, headers)
        if self._wire is not None and self.scope is cycle.scope and not cycle.more_body:
            # A stream is long. Its request has been read, and nothing of a next one has come.
            self.headers, self.url = [], b""
            self.parser = _NothingFollows(self.transport)  # type: ignore[assignment]
        return self._wire

    @property
    def _is_answered(self) -> bool:
        """Whether every request that has begun is answered."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _end_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def notice_lost_peers(sock: socket.socket) -> None:
    """Have the kernel end a TCP connection whose peer is gone, or never takes what is sent to it.

    On a socket that listens, it holds for those that it accepts, on Linux: they begin as copies
    with its options. So an accepted one is looked at, which costs a call instead of five.
    """
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        keep_socket_alive(sock, unacknowledged_seconds=PEER_SECONDS)


def forget_head(scope: MutableMapping[str, Any]) -> None:
    """Drop the head of a request that has been read, and is answered by a stream: it takes 2 kB.

    The server keeps the scope until the response ends. It needs the method for that, and the path
    if another request comes meanwhile.
    """
    kept = {"method": scope["method"], "path": scope["path"]}
    scope.clear()
    scope.update(kept)


class _NothingFollows:
    """Takes the place of the parser of a stream: anything but blank lines ends the connection.

    The parser would take 900 bytes as long as the stream lasts, and find no request in it.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def feed_data(self, data: bytes) -> None:
        """Take in what the peer has sent."""
        if data.strip(b"\r\n"):
            self._transport.abort()


class _Queue(list[Any]):
    """The requests that wait for their turn, the newest first.

    As long as it is empty, and nothing may follow a stream, a list takes 56 bytes; the double-ended
    queue in its place took 760.
    """

    def appendleft(self, request: object) -> None:
        """Add the newest one."""
        self.insert(0, request)


class CloseDelimitedCycle(RequestResponseCycle):
    """An answer in HTTP/1.0, which knows no chunks: its end is its length, or the connection's."""

    _has_length = False

    async def send(self, message: MutableMapping[str, Any]) -> None:  # type: ignore[override]
        """Send a message without chunk framing."""
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", [])}
            self._has_length = b"content-length" in names
            if not self._has_length:
                self.chunked_encoding = False
        elif not self._has_length:
            # uvicorn insists on the length that was announced; each part announces its own.
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)  # type: ignore[arg-type]
