"""How a gateway stops, on a loop whose sleeps are recorded."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import pytest

from gateway.streams.connection import CloseReason
from gateway.streams.drain import Drain


@dataclass(eq=False)
class Stream:
    written: bytes = b""
    reason: CloseReason | None = None
    closed: list[Stream] = field(default_factory=list)

    def write(self, *frames: bytes) -> None:
        self.written += b"".join(frames)

    def make_good(self) -> None:
        self.written += b"event: resync\n\n"

    def close(self, reason: CloseReason) -> None:
        self.reason = reason


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


async def test_it_leaves_the_balancer_first(slept: list[float]) -> None:
    """For the delay it is not ready but serves; only then does it stop accepting."""
    drain = Drain(seconds=10, delay_seconds=3)
    assert not drain.is_stopping
    states = []

    def stop_accepting() -> None:
        states.append((drain.is_stopping, drain.is_refusing, sum(slept)))

    def connections() -> list[Stream]:
        if not states:
            assert not drain.is_refusing
        return []

    await drain.run(connections, stop_accepting)  # type: ignore[arg-type]
    assert states == [(True, True, 3)]


async def test_streams_end_in_turn(slept: list[float]) -> None:
    """All are closed within the drain time, evenly, with a frame that says when to come back."""
    drain = Drain(seconds=2)
    streams = [Stream() for _ in range(100)]
    counts: list[int] = []

    def connections() -> list[Stream]:
        still_open = [stream for stream in streams if stream.reason is None]
        counts.append(len(still_open))
        return still_open

    await drain.run(connections, lambda: None)  # type: ignore[arg-type]
    assert counts[-1] == 0
    assert sum(slept) <= 2
    assert max(before - after for before, after in itertools.pairwise(counts)) <= 4
    assert all(stream.reason is CloseReason.DRAINED for stream in streams)
    assert all(b"event: closing" in stream.written for stream in streams)


async def test_a_stream_that_will_not_go_is_told_again(slept: list[float]) -> None:
    """What joined at the last moment is closed at the end."""
    drain = Drain(seconds=0)
    late = Stream()
    asked = 0

    def connections() -> list[Stream]:
        nonlocal asked
        asked += 1
        return [Stream()] if asked < 4 else [late]

    await drain.run(connections, lambda: None)  # type: ignore[arg-type]
    assert late.reason is CloseReason.DRAINED
