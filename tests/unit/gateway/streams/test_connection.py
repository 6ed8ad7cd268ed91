from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.streams import connection as connection_module
from gateway.streams import sse
from gateway.streams.connection import CloseReason, Connection
from gateway.streams.frame import Frame
from gateway.streams.subscription import Subscription
from shared.position import Position


class Socket:
    """A hand-written ASGI `send` over a socket that can be full."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.room = asyncio.Event()
        self.room.set()
        self.broken = False

    async def send(self, message: Any) -> None:
        if not self.room.is_set():
            await self.room.wait()
        if self.broken:
            raise OSError("broken pipe")
        self.sent.append(message["body"])


class Harness:
    def __init__(
        self,
        group: asyncio.TaskGroup,
        most_pending_bytes: int = 100,
        tables: tuple[str, ...] = ("public.posts",),
        unsent: Callable[[], int] | None = None,
    ) -> None:
        self.socket = Socket()
        self.overflows = 0
        self.closes = 0
        self.made_good = 0
        self.connection = Connection(
            send=self.socket.send,
            spawn=lambda work, name: group.create_task(work, name=name),
            on_close=self._close,
            on_overflow=self._overflow,
            subscription=Subscription({table: n for n, table in enumerate(tables, 1)}),
            role="r",
            settings=("", "", "", ""),
            user_id="u",
            address="127.0.0.1",
            expires_at=None,
            leave=False,
            most_pending_bytes=most_pending_bytes,
            unsent=unsent,
            on_made_good=self._made_good,
        )

    def _made_good(self) -> None:
        self.made_good += 1

    def _close(self) -> None:
        self.closes += 1

    def _overflow(self, _connection: Connection) -> None:
        self.overflows += 1


async def test_a_write_with_room_is_sent_at_once() -> None:
    """While the socket has room, write has sent before it returns: no task, no switch."""
    async with asyncio.TaskGroup() as group:
        h = Harness(group)
        h.connection.write(b"a", b"b")
        assert h.socket.sent == [b"ab"]
        assert not h.connection.is_blocked


async def test_a_full_socket_keeps_order_and_loses_nothing() -> None:
    """What is written while the socket is full follows in order once there is room."""
    async with asyncio.TaskGroup() as group:
        h = Harness(group)
        h.connection.write(b"1")
        h.socket.room.clear()
        for n in range(2, 10):
            h.connection.write(b"%d" % n)
            await asyncio.sleep(0)
        assert h.connection.is_blocked
        drained = asyncio.Event()
        h.connection.when_drained(lambda _: drained.set())
        h.socket.room.set()
        await drained.wait()
        h.connection.write(b"!")
        assert b"".join(h.socket.sent) == b"123456789!"
        assert h.connection.pending_bytes == 0


async def test_a_full_socket_is_told_beyond_the_bound() -> None:
    """More kept bytes than the bound are reported, so that the hub stops adding to them."""
    async with asyncio.TaskGroup() as group:
        h = Harness(group, most_pending_bytes=10)
        h.socket.room.clear()
        h.connection.write(b"x")
        h.connection.write(b"y" * 10)
        assert h.overflows == 0
        h.connection.write(b"z")
        assert h.overflows == 1
        h.socket.room.set()


async def test_a_peer_that_takes_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that waits too long ends the stream, with its reason."""
    monkeypatch.setattr(connection_module, "WRITE_SECONDS", 0.05)
    async with asyncio.TaskGroup() as group:
        h = Harness(group)
        h.socket.room.clear()
        h.connection.write(b"x")
    assert h.connection.close_reason is CloseReason.STALLED
    assert h.closes == 1


async def test_a_peer_that_reads_slowly_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One write may take longer than the bound, as long as bytes leave the server meanwhile."""
    monkeypatch.setattr(connection_module, "WRITE_SECONDS", 0.1)
    unsent = iter(range(1_000, 0, -1))
    is_reading = True
    async with asyncio.TaskGroup() as group:
        h = Harness(group, unsent=lambda: next(unsent) if is_reading else 500)
        h.socket.room.clear()
        h.connection.write(b"x")
        await asyncio.sleep(0.5)
        assert h.connection.is_open
        is_reading = False
    assert h.connection.close_reason is CloseReason.STALLED


async def test_a_broken_socket_is_gone() -> None:
    """An error of the socket ends the stream, at once or in the task that waits."""
    async with asyncio.TaskGroup() as group:
        h = Harness(group)
        h.socket.broken = True
        h.connection.write(b"x")
        assert h.connection.close_reason is CloseReason.GONE
        later = Harness(group)
        later.socket.room.clear()
        later.connection.write(b"x")
        later.socket.broken = True
        later.socket.room.set()
    assert later.connection.close_reason is CloseReason.GONE


async def test_a_closed_stream_takes_nothing() -> None:
    """After the close writes are dropped, and the close is told once with its first reason."""
    async with asyncio.TaskGroup() as group:
        h = Harness(group)
        h.connection.close(CloseReason.EXPIRED)
        h.connection.close(CloseReason.GONE)
        h.connection.write(b"x")
        assert h.socket.sent == []
        assert h.closes == 1
        assert h.connection.close_reason is CloseReason.EXPIRED


async def test_what_was_missed_is_said_before_the_position_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that comes back after the event that follows has been asked to fetch again, and that
    is counted; once in ten seconds, however often its policies fail.
    """
    now = 100.0
    monkeypatch.setattr("gateway.streams.connection.time.monotonic", lambda: now)
    resync = b'event: resync\ndata: {"reason":"overflow","tables":["posts"]}\n\n'
    async with asyncio.TaskGroup() as group:
        h = Harness(group, most_pending_bytes=10_000)
        for at, number, wanted in (
            (100.0, b"1", [resync, b"1"]),
            (109.0, b"2", [b"2"]),
            (111.0, b"3", [resync, b"3"]),
        ):
            now = at
            h.connection.miss("public.posts", now)
            h.socket.sent.clear()
            h.connection.send(Frame(number), now)
            assert h.socket.sent == wanted
        h.socket.sent.clear()
        now = 130.0
        h.connection.send(Frame(b"4"), now)
        assert h.socket.sent == [b"4"]
        assert h.made_good == 2


async def test_a_position_never_passes_what_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While `resync` is held back, events go out without their positions: a client that leaves
    meanwhile comes back before what it has missed, and not after it.
    """
    now = 100.0
    monkeypatch.setattr("gateway.streams.connection.time.monotonic", lambda: now)

    def event(number: int) -> Frame:
        data = sse.data_frame(Position(1, number), "create", "public.b", b'{"a":"id: 7"}')
        return Frame(data)

    async with asyncio.TaskGroup() as group:
        h = Harness(group, most_pending_bytes=10_000)
        h.connection.miss("public.a", now)
        h.connection.send(event(1), now)
        assert h.socket.sent[-1] == event(1).data
        now = 105.0
        h.connection.miss("public.a", now)
        h.socket.sent.clear()
        h.connection.send(event(2), now)
        h.connection.stage(event(3))
        h.connection.flush()
        without = event(2).data.partition(b"\n")[2] + event(3).data.partition(b"\n")[2]
        assert b"".join(h.socket.sent) == without
        assert b'"a":"id: 7"' in without
        now = 111.0
        h.socket.sent.clear()
        h.connection.send(event(4), now)
        assert b"".join(h.socket.sent).startswith(sse.RESYNC)
        assert h.socket.sent[-1] == event(4).data
