"""A client of event streams that exposes all it reads: events, positions and raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

import h11

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Event:
    """An event as a browser dispatches it; without a name in the stream, `type` is `message`."""

    type: str
    data: str
    id: str

    def json(self) -> Any:
        """The data, decoded."""
        return json.loads(self.data)


@dataclass
class EventStreamParser:
    """Parses an event stream in chunks of any size (HTML standard, section 9.2.6, "Interpreting an
    event stream").
    """

    last_event_id: str = ""
    retry_milliseconds: int | None = None
    comments: list[str] = field(default_factory=list)
    _pending: bytes = b""
    _started: bool = False
    _type: str = ""
    _data: list[str] = field(default_factory=list)
    _id: str = ""

    def __post_init__(self) -> None:
        self._id = self.last_event_id

    def feed(self, chunk: bytes) -> list[Event]:
        """Take a chunk and return the events that it completes."""
        self._pending += chunk
        if not self._started:
            if len(self._pending) < 3 and b"\xef\xbb\xbf".startswith(self._pending):
                return []
            self._pending = self._pending.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        events = []
        for line in self._lines():
            event = self._line(line.decode(errors="replace"))
            if event is not None:
                events.append(event)
        return events

    def _lines(self) -> list[bytes]:
        """Split off whole lines: they end in CRLF, LF or CR."""
        # After a CR at the end of the chunk the LF may still come.
        held = self._pending[-1:] if self._pending.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(self._pending.removesuffix(held))
        self._pending = rest + held
        return lines

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(":")
        if colon and not name:
            self.comments.append(value)
            return None
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_milliseconds = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        kind, data = self._type or "message", self._data
        self._type, self._data = "", []
        if not data:
            return None
        return Event(kind, "\n".join(data), self.last_event_id)


class StreamEndedError(Exception):
    """The server has ended the stream, or the connection is lost."""


class SseClient:
    """One stream over one socket.

    `events` holds every event read, control frames included; `messages` holds the data frames.
    Heartbeats are only counted.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        **parameters: str,
    ) -> None:
        self.url = url + "/api/realtime?" + urlencode(parameters)
        self._headers = {"Accept": "text/event-stream", **(headers or {})}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        if last_event_id:
            self._headers["Last-Event-ID"] = last_event_id
        self.parser = EventStreamParser(last_event_id)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw = bytearray()
        self.events: list[Event] = []
        self.heartbeats = 0
        self._unread: list[Event] = []
        self._http = h11.Connection(h11.CLIENT)

    @property
    def last_event_id(self) -> str:
        """The position that a browser would send when it reconnects."""
        return self.parser.last_event_id

    @property
    def messages(self) -> list[Event]:
        """The data frames read so far: what `onmessage` has received."""
        return [event for event in self.events if event.type == "message"]

    async def open(self) -> Self:
        """Connect and read the head of the response."""
        parts = urlsplit(self.url)
        self._reader, self._writer = await asyncio.open_connection(parts.hostname, parts.port)
        request = h11.Request(
            method="GET",
            target=f"{parts.path}?{parts.query}",
            headers=[("Host", parts.netloc), *self._headers.items()],
        )
        self._writer.write(self._http.send(request) + self._http.send(h11.EndOfMessage()))
        head = await self._next_http()
        assert isinstance(head, h11.Response), head
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connected(self, seconds: float = 10.0) -> Self:
        """Wait for the `connected` event: the stream is live."""
        assert self.status == 200, (self.status, await self.body())
        while (await self.next(seconds)).type != "connected":
            pass
        return self

    async def next(self, seconds: float = 10.0) -> Event:
        """Wait for the next event of any type; raises `StreamEndedError` or `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while not self._unread:
                self._take(await self._next_http())
        return self._unread.pop(0)

    async def next_message(self, seconds: float = 10.0) -> Event:
        """Wait for the next data frame, skipping control frames."""
        async with asyncio.timeout(seconds):
            while True:
                event = await self.next(seconds)
                if event.type == "message":
                    return event

    async def take(self, count: int, seconds: float = 10.0) -> list[Event]:
        """Wait for this many data frames, all within the time."""
        async with asyncio.timeout(seconds):
            return [await self.next_message(seconds) for _ in range(count)]

    async def silence(self, seconds: float = 0.5) -> None:
        """Check that nothing but heartbeats comes for this long."""
        with contextlib.suppress(TimeoutError):
            event = await self.next(seconds)
            raise AssertionError(f"expected silence, got {event}")

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield all events until the stream ends."""
        while True:
            try:
                yield await self.next(3600)
            except StreamEndedError:
                return

    async def body(self) -> bytes:
        """Read the rest of a response that is not a stream."""
        with contextlib.suppress(StreamEndedError):
            while True:
                self._take(await self._next_http())
        return bytes(self.raw)

    async def ended(self, seconds: float = 10.0) -> None:
        """Wait until the server ends the stream; what arrives before is kept."""
        async with asyncio.timeout(seconds):
            await self.body()

    def pause_reading(self) -> None:
        """Stop reading from the socket, whose buffers then fill up."""
        self._transport().pause_reading()

    def resume_reading(self) -> None:
        """Read from the socket again."""
        self._transport().resume_reading()

    def cut(self) -> None:
        """Close the socket without notice to the server."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the socket."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _transport(self) -> asyncio.Transport:
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        return transport

    def _take(self, part: object) -> None:
        if not isinstance(part, h11.Data):
            raise StreamEndedError
        self.raw += part.data
        events = self.parser.feed(bytes(part.data))
        self.heartbeats += sum(event.type == "heartbeat" for event in events)
        events = [event for event in events if event.type != "heartbeat"]
        self.events += events
        self._unread += events

    async def _next_http(self) -> object:
        while (part := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = await self._reader.read(65536)
            except OSError as error:
                raise StreamEndedError from error
            try:
                self._http.receive_data(data)
                if not data and self._http.their_state is h11.SEND_BODY:
                    raise StreamEndedError  # cut off in the middle
            except h11.RemoteProtocolError as error:
                raise StreamEndedError from error
        return part
