"""One client's stream: what waits to be written to it, and why it ended.

Writing steps the server's `send` coroutine by hand: while the socket has room it runs to its end at
once, and a write costs no task and no switch (5 us instead of 22 us a delivery, see
docs/decisions/0006-plain-asgi-stream.md). Only when the socket is full does `send` wait; then a
task takes the coroutine over where it stands, and what is written meanwhile is kept here.

    state       write           socket full    all written    close        peer gone
    open        sent at once    -> stuck       -              -> closed    -> closed
    stuck       kept            -              -> open        -> closed    -> closed
    closed      dropped         -              -              -            -

A stream that keeps more than its bound is told to `on_overflow`: the hub takes it off the live
stream and replays to it at its own pace, so that nothing is dropped and memory stays bounded. One
whose peer takes nothing for `WRITE_SECONDS` is closed; its client may resume.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from gateway.streams import sse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, MutableMapping

    from gateway.visibility.cohorts import Settings
    from shared.tasks import Spawn

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WRITE_SECONDS: Final = 30.0
"""How long one write may wait for a peer that reads nothing."""

_PIECE_BYTES: Final = 64 * 1024


class CloseReason(enum.StrEnum):
    """Why a stream ended."""

    GONE = "gone"  # the client closed it
    STALLED = "stalled"  # it took nothing for too long; it may resume
    EXPIRED = "expired"  # its token's time is over
    DRAINED = "drained"  # this gateway stops


class Connection:
    """A stream that has been accepted.

    `order` is how far it has been told, as a sortable number (see `gateway.fanout.delivery`);
    `role` is None where authentication is off.
    """

    __slots__ = (
        "__weakref__",
        "_blocked",
        "_most_pending_bytes",
        "_on_close",
        "_on_drained",
        "_on_overflow",
        "_pending",
        "_pending_bytes",
        "_send",
        "_spawn",
        "address",
        "client_id",
        "close_reason",
        "expires_at",
        "frames",
        "leave",
        "order",
        "role",
        "settings",
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
        tables: tuple[str, ...],
        role: str | None,
        settings: Settings,
        user_id: str,
        address: str,
        expires_at: float | None,
        leave: bool,
        most_pending_bytes: int,
    ) -> None:
        self.client_id: Final = secrets.token_hex(8)
        self.tables: Final = tables
        self.role: Final = role
        self.settings: Final = settings
        self.user_id: Final = user_id
        self.address: Final = address
        self.expires_at: Final = expires_at
        self.leave: Final = leave
        self.order = 0
        self.frames: list[bytes] = []
        self.wrote_at = time.monotonic()
        self.close_reason: CloseReason | None = None
        self._send = send
        self._spawn = spawn
        self._on_close = on_close
        self._on_overflow = on_overflow
        self._on_drained: Callable[[Connection], None] | None = None
        self._most_pending_bytes = most_pending_bytes
        self._pending: list[bytes] = []
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

    def when_drained(self, callback: Callable[[Connection], None]) -> None:
        """Call back once, when a stuck stream has written all that waited or has closed."""
        self._on_drained = callback

    def write(self, *frames: bytes) -> None:
        """Write now if the socket has room, else keep the frames until it has."""
        if self.close_reason is not None:
            return
        self.wrote_at = time.monotonic()
        if self._blocked:
            self._pending.extend(frames)
            self._pending_bytes += sum(map(len, frames))
            if self._pending_bytes > self._most_pending_bytes:
                self._on_overflow(self)
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        sending = self._send(_body(data)).__await__()
        try:
            waiting = next(sending)
        except StopIteration:
            return
        except (OSError, RuntimeError):
            self.close(CloseReason.GONE)
            return
        self._blocked = True
        self._spawn(self._finish(sending, waiting), f"write {self.client_id}")

    def expire(self) -> None:
        """End the stream since its token's time is over, and say so."""
        self.write(sse.expired_frame())
        self.close(CloseReason.EXPIRED)

    def close(self, reason: CloseReason) -> None:
        """End the stream, once; its endpoint does the rest."""
        if self.close_reason is None:
            self.close_reason = reason
            self._pending.clear()
            self._pending_bytes = 0
            self._on_close()
            if not self._blocked:
                self._drained()

    async def _finish(self, sending: Generator[Any, None, None], waiting: object) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await _Resumed(sending, waiting)
            while self._pending and self.close_reason is None:
                data = self._take_pending()
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._send(_body(data))
        except TimeoutError:
            self.close(CloseReason.STALLED)
        except (OSError, RuntimeError):
            self.close(CloseReason.GONE)
        finally:
            self._blocked = False
            self._drained()

    def _take_pending(self) -> bytes:
        taken = size = 0
        for frame in self._pending:
            if size > _PIECE_BYTES:
                break
            size += len(frame)
            taken += 1
        data = b"".join(self._pending[:taken])
        del self._pending[:taken]
        self._pending_bytes -= size
        return data

    def _drained(self) -> None:
        callback, self._on_drained = self._on_drained, None
        if callback is not None:
            callback(self)


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
