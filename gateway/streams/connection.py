"""One client's stream: what waits to be written to it, and why it ended.

While its socket has room, a stream is written to directly (`gateway.streams.wire`). Where there is
no wire (TLS, HTTP/1.0), writing steps the server's `send` coroutine by hand: while the socket has
room it runs to its end at once. Neither costs a task or a switch (see
docs/decisions/0006-plain-asgi-stream.md and 0015-direct-writes.md). Only when the socket is full
does a task wait for it, and what is written meanwhile stays pending here.

    state       write           socket full    all written    close        peer gone
    open        sent at once    -> blocked     -              -> closed    -> closed
    blocked     pending         -              -> open        -> closed    -> closed
    closed      dropped         -              -              -            -

A stream with more pending bytes than its bound is reported to `on_overflow`: the hub takes it off
the live stream and replays to it at its own pace, so nothing is dropped and memory stays bounded. A
stream whose peer reads nothing for `WRITE_SECONDS` is closed; its client may resume. A peer that
reads, however slowly, is not: what counts is that the server's buffer shrinks, not that one write
completes.
"""

from __future__ import annotations

import asyncio
import enum
import math
import os
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from gateway.streams import sse
from gateway.streams.cursor import START, Cursor, cursor_at
from gateway.streams.frame import Frame, joined, joined_chunks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, MutableMapping, Sequence

    from gateway.streams.subscription import Subscription
    from gateway.streams.wire import Wire
    from gateway.visibility.cohorts import Settings
    from shared.position import Position
    from shared.tasks import Spawn

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WRITE_SECONDS: Final = 30.0
"""How long a peer may read nothing while something waits for it."""

MAKE_GOOD_APART_SECONDS: Final = 10.0
"""How long a stream with failing policies may get events without another `resync` before them."""

_LOOKS: Final = 4
"""How often within that time it is looked for progress."""

_PIECE_BYTES: Final = 64 * 1024

_write_to: Final = os.write


class CloseReason(enum.StrEnum):
    """Why a stream ended."""

    GONE = "gone"  # the client closed it
    STALLED = "stalled"  # the client read nothing for too long; it may resume
    EXPIRED = "expired"  # its token has expired
    DRAINED = "drained"  # this gateway stops


class Connection:
    """A stream that has been accepted.

    `cursor` is how far it has been served, and `staged` what delivery is about to write to it (see
    `gateway.fanout.delivery`), None for nothing; `ends_at` is `expires_at`, or infinity. `role` is
    None while authentication is off. `on_made_good` is called for each `resync` about changes that
    were missed while policies failed. `unsent` returns how many bytes the server has not yet handed
    to the socket.

    `_is_clear` is derived: the stream is written to directly, its socket is not known to be full,
    and nothing is staged, pending or missed. Then a frame is one write and nothing else. It is one
    flag since each of thousands of streams is out of the processor's cache when its turn comes:
    what counts is how many objects a write has to look at.
    """

    __slots__ = (
        "__weakref__",
        "_blocked",
        "_is_clear",
        "_is_direct",
        "_made_good_at",
        "_missed",
        "_most_pending_bytes",
        "_on_close",
        "_on_drained",
        "_on_made_good",
        "_on_overflow",
        "_pending",
        "_pending_bytes",
        "_reported",
        "_send",
        "_spawn",
        "_unsent",
        "_wire",
        "address",
        "client_id",
        "close_reason",
        "cursor",
        "ends_at",
        "expires_at",
        "leave",
        "role",
        "settings",
        "staged",
        "subscription",
        "tables",
        "user_id",
        "wrote_at",
    )

    def __init__(
        self,
        *,
        send: Send,
        spawn: Spawn,
        on_close: Callable[[], None],
        on_overflow: Callable[[Connection], None],
        subscription: Subscription,
        role: str | None,
        settings: Settings,
        user_id: str,
        address: str,
        expires_at: float | None,
        leave: bool,
        most_pending_bytes: int,
        unsent: Callable[[], int] | None = None,
        on_made_good: Callable[[], object] = lambda: None,
    ) -> None:
        self.client_id: Final = secrets.token_hex(8)
        self.subscription: Final = subscription
        self.tables: Final = subscription.tables
        self.role: Final = role
        self.settings: Final = settings
        self.user_id: Final = user_id
        self.address: Final = address
        self.expires_at: Final = expires_at
        self.leave: Final = leave
        self.cursor: Cursor = START
        self.ends_at: Final = math.inf if expires_at is None else expires_at
        self.staged: list[Frame] | None = None
        self.wrote_at = time.monotonic()
        self.close_reason: CloseReason | None = None
        self._send = send
        self._spawn = spawn
        self._on_close = on_close
        self._on_overflow = on_overflow
        self._on_made_good = on_made_good
        self._on_drained: Callable[[Connection], None] | None = None
        self._most_pending_bytes = most_pending_bytes
        self._unsent = unsent
        self._wire: Wire | None = None
        self._is_direct = False
        self._is_clear = False
        self._reported: dict[str, float] | None = None
        self._missed: dict[str, float] | None = None
        self._made_good_at = -math.inf
        self._pending: list[Frame] | None = None
        self._pending_bytes = 0
        self._blocked = False

    @property
    def is_open(self) -> bool:
        """Whether it may still be written to."""
        return self.close_reason is None

    @property
    def is_blocked(self) -> bool:
        """Whether its socket is full."""
        return self._blocked

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for its socket."""
        return self._pending_bytes

    def attach(self, wire: Wire) -> None:
        """Write directly from now on, whenever the server has nothing left to write."""
        self._wire = wire

    def when_drained(self, callback: Callable[[Connection], None]) -> None:
        """Call back once, when a blocked stream has written all that was pending or has closed."""
        self._on_drained = callback

    def advance(self, cursor: Cursor) -> None:
        """Move the cursor forward, never back."""
        self.cursor = max(self.cursor, cursor)

    def stage(self, frame: Frame) -> None:
        """Stage a frame, to be written by `flush` or before whatever is written next."""
        self._is_clear = False
        if self.staged is None:
            self.staged = [frame]
        else:
            self.staged.append(frame)

    def unstage(self) -> None:
        """Drop what is staged."""
        self.staged = None

    def flush(self) -> None:
        """Write what is staged."""
        staged = self.staged
        if staged is not None:
            self.staged = None
            now = time.monotonic()
            if self._missed:
                if now - self._made_good_at >= MAKE_GOOD_APART_SECONDS:
                    # What follows moves the client's position past what it has missed.
                    self.make_good()
                else:
                    # So it must not move it: a client that leaves comes back before what it missed.
                    staged = [Frame(sse.without_position(frame.data)) for frame in staged]
            self._write(staged, now)

    def send(self, frame: Frame, now: float) -> None:
        """Write a frame after what is staged; `now` is the monotonic time."""
        if self._is_clear:
            self.wrote_at = now
            self._write_directly(frame.chunk)
        else:
            self.stage(frame)
            self.flush()

    def write(self, *frames: bytes) -> None:
        """Write after what is staged: now if the socket has room, else once it has."""
        self.flush()
        self._write([Frame(frame) for frame in frames], time.monotonic())

    def resync(self, position: Position, reason: sse.ResyncReason) -> None:
        """Ask the client to fetch its tables again, and go on from a position.

        What waits for the socket is dropped: it may have been taken back, and is fetched again.
        """
        self.staged = self._pending = self._missed = None
        self._pending_bytes = 0
        self.cursor = cursor_at(position)
        self.write(sse.resync_frame(position, reason, self.tables))

    @property
    def has_missed(self) -> bool:
        """Whether it has missed changes, and was not asked yet to fetch their tables again."""
        return bool(self._missed)

    def miss(self, table: str, now: float) -> None:
        """Note that it misses changes of a table, since its policies fail."""
        self._is_clear = False
        if self._missed is None:
            self._missed = {}
        self._missed.setdefault(table, now)

    def make_good(self, *, missed_before: float | None = None) -> None:
        """Ask the client to fetch the tables again of which it has missed changes.

        With a time, in seconds of the monotonic clock, only those that it misses since before then.
        """
        if not self._missed:
            return
        tables = [
            t for t, at in self._missed.items() if missed_before is None or at < missed_before
        ]
        for table in tables:
            del self._missed[table]
        if tables:
            self._made_good_at = time.monotonic()
            self._on_made_good()
            self.write(sse.resync_frame(None, "overflow", tables))

    def may_report(self, table: str, now: float, apart_seconds: float) -> bool:
        """Whether an error about a table may be sent now, so long after the last one."""
        if self._reported is None:
            self._reported = {}
        before = self._reported.get(table)
        if before is not None and now - before < apart_seconds:
            return False
        self._reported[table] = now
        return True

    def expire(self) -> None:
        """End the stream since its token has expired, and say so."""
        self.unstage()
        self.make_good()
        self.write(sse.expired_frame())
        self.close(CloseReason.EXPIRED)

    def close(self, reason: CloseReason) -> None:
        """End the stream, once; its endpoint does the rest."""
        if self.close_reason is None:
            self.close_reason = reason
            self._is_direct = self._is_clear = False
            self._pending = None
            self._pending_bytes = 0
            self._on_close()
            if not self._blocked:
                self._drained()

    def _write(self, frames: Sequence[Frame], now: float) -> None:
        if self.close_reason is not None:
            return
        self.wrote_at = now
        if self._blocked:
            if self._pending is None:
                self._pending = []
            self._pending.extend(frames)
            self._pending_bytes += sum(map(len, frames))
            if self._pending_bytes > self._most_pending_bytes:
                self._on_overflow(self)
        elif self._wire is not None and (self._is_direct or self._wire.is_clear()):
            self._is_direct = True
            self._is_clear = self.staged is None and not self._missed
            chunks = joined_chunks(frames)
            if self._wire.head:
                chunks, self._wire.head = self._wire.head + chunks, b""
            self._write_directly(chunks)
        else:
            self._step(joined(frames))

    def _write_directly(self, chunks: bytes) -> None:
        """Write chunks to the socket, and leave to the server what it refuses."""
        try:
            sent = _write_to(self._wire.fd, chunks)  # type: ignore[union-attr]
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close(CloseReason.GONE)
            return
        if sent != len(chunks):
            self._blocked = True
            self._is_clear = False
            rest = self._wire.finish(memoryview(chunks)[sent:])  # type: ignore[union-attr]
            self._spawn(self._finish(rest), f"write {self.client_id}")

    def _step(self, data: bytes) -> None:
        """Write through the server, by stepping its coroutine."""
        sending = self._send(_body(data)).__await__()
        try:
            waiting = next(sending)
        except StopIteration:
            return
        except (OSError, RuntimeError):
            self.close(CloseReason.GONE)
            return
        self._blocked = True
        self._spawn(self._finish(_Resumed(sending, waiting)), f"write {self.client_id}")

    async def _finish(self, writing: Awaitable[None]) -> None:
        try:
            async with _WhileItMoves(self._unsent):
                await writing
            while self._pending and self.close_reason is None:
                frames = self._take_pending()
                async with _WhileItMoves(self._unsent):
                    if self._is_direct and self._wire is not None:
                        await self._wire.finish(joined_chunks(frames))
                    else:
                        await self._send(_body(joined(frames)))
        except TimeoutError:
            self.close(CloseReason.STALLED)
        except (OSError, RuntimeError):
            self.close(CloseReason.GONE)
        finally:
            self._blocked = False
            self._drained()

    def _take_pending(self) -> list[Frame]:
        pending = self._pending or []
        count = size = 0
        for frame in pending:
            if size > _PIECE_BYTES:
                break
            size += len(frame)
            count += 1
        taken = pending[:count]
        del pending[:count]
        self._pending_bytes -= size
        if not pending:
            self._pending = None
        return taken

    def _drained(self) -> None:
        callback, self._on_drained = self._on_drained, None
        if callback is not None:
            callback(self)


class _WhileItMoves:
    """A timeout of `WRITE_SECONDS` that begins again whenever bytes have left the server."""

    def __init__(self, unsent: Callable[[], int] | None) -> None:
        self._unsent = unsent
        self._before = 0 if unsent is None else unsent()
        self._timeout = asyncio.timeout(WRITE_SECONDS)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        if self._unsent is not None:
            self._look_later()

    async def __aexit__(self, *error: Any) -> None:  # noqa: ANN401
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(*error)

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WRITE_SECONDS / _LOOKS, self._look)

    def _look(self) -> None:
        if self._unsent is None or self._timeout.expired():
            return
        now = self._unsent()
        if now < self._before:
            self._timeout.reschedule(asyncio.get_running_loop().time() + WRITE_SECONDS)
        self._before = now
        self._look_later()


def _body(data: bytes) -> MutableMapping[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


class _Resumed:
    """Awaits the rest of a coroutine that was stepped by hand until it yielded `waiting`."""

    def __init__(self, sending: Generator[Any, None, None], waiting: object) -> None:
        self._sending = sending
        self._waiting = waiting

    def __await__(self) -> Generator[Any, None, None]:
        yield self._waiting
        yield from self._sending
