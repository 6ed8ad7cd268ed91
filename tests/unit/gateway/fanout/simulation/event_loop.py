"""An event loop with virtual time: it never sleeps, and the same seed gives the same run."""

from __future__ import annotations

import asyncio
from typing import Any

MOST_TURNS_AT_ONCE = 20_000


class SpinError(AssertionError):
    """The loop turns without end and time does not pass."""


class StuckError(AssertionError):
    """Nothing is ready and no timer is set."""


class _NoSockets:
    """Stands for the selector: waiting moves the clock, and no socket is ever ready."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StuckError
        self._loop.pass_time(timeout)
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks and timers in order; time passes only while nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1_000.0
        self._turns = 0
        self._selector = _NoSockets(self)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        if seconds > 0:
            self._now += seconds
            self._turns = 0
            return
        self._turns += 1
        if self._turns > MOST_TURNS_AT_ONCE:
            raise SpinError

    def run_for(self, seconds: float) -> None:
        """Run until so much virtual time has passed."""
        self.run_until_complete(asyncio.sleep(seconds))

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        pass


class VirtualTime:
    """Stands for the module `time` in the modules under simulation."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()

    def time(self) -> float:
        return 1_700_000_000.0 + self._loop.time()
