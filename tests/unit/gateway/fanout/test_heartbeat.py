"""What a connection has missed is made good, sooner or later."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gateway.fanout import heartbeat as heartbeat_module
from gateway.fanout.dispatch import Judged, Notice
from gateway.fanout.heartbeat import Heartbeat
from gateway.streams.cursor import Cursor
from shared.position import Position
from tests.unit.gateway.fanout.test_delivery import a_delivery
from tests.unit.gateway.streams.test_connection import Harness

if TYPE_CHECKING:
    from gateway.streams.connection import Connection

RESYNC = b'event: resync\ndata: {"reason":"overflow","tables":["a"]}\n\n'


@dataclass
class Place:
    """The hub or the replayer, with its connections."""

    members: list[Connection] = field(default_factory=list)
    delivered: Position = field(default_factory=lambda: Position(1, 7, 0))

    def connections(self) -> list[Connection]:
        return self.members

    def is_taken_back(self, cursor: Cursor) -> bool:
        return False


async def swept(connection: Connection, *, is_live: bool, seconds: float) -> None:
    """Sweep twice, with heartbeats for those who were silent for `seconds`."""
    live, behind = ([connection], []) if is_live else ([], [connection])
    heart: Any = Heartbeat(
        hub=Place(live),  # type: ignore[arg-type]
        replayer=Place(behind),  # type: ignore[arg-type]
        backlog=Place(),  # type: ignore[arg-type]
        seconds=seconds,
    )
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await heart.run()


@pytest.mark.parametrize("is_live", [True, False])
async def test_failed_is_not_denied(is_live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose policies failed gets `resync` a while after it first missed a change, and
    again after it has missed more; until then its position stays.
    """
    monkeypatch.setattr(heartbeat_module, "_SWEEP_SECONDS", 0.01)
    delivery, _ = a_delivery()
    async with asyncio.TaskGroup() as group:
        client = Harness(group, most_pending_bytes=10_000)
        connection = client.connection
        failed = Judged(notices=[Notice("public.a", "fails", [[connection]], has_missed=True)])
        await delivery.write(failed)
        await swept(connection, is_live=is_live, seconds=0)
        assert RESYNC not in client.socket.sent
        assert all(b"id:" not in frame for frame in client.socket.sent), client.socket.sent

        monkeypatch.setattr(heartbeat_module, "_MAKE_GOOD_AFTER_SECONDS", 0.0)
        await swept(connection, is_live=is_live, seconds=60)
        assert client.socket.sent.count(RESYNC) == 1
        await delivery.write(failed)
        await delivery.write(failed)
        await swept(connection, is_live=is_live, seconds=60)
        assert client.socket.sent.count(RESYNC) == 2


async def test_a_denial_is_no_failure() -> None:
    """A role without a privilege has missed nothing."""
    delivery, _ = a_delivery()
    async with asyncio.TaskGroup() as group:
        client = Harness(group, most_pending_bytes=10_000)
        await delivery.write(Judged(notices=[Notice("public.a", "denied", [[client.connection]])]))
        assert not client.connection.has_missed


async def test_what_was_missed_is_made_good_before_the_end() -> None:
    """A stream whose token expires is asked to fetch again first."""
    async with asyncio.TaskGroup() as group:
        client = Harness(group, most_pending_bytes=10_000)
        client.connection.miss("public.a", 0.0)
        client.connection.expire()
        assert client.socket.sent[0] == RESYNC
        assert b"expired" in client.socket.sent[1]
