"""What both servers have in common: a child process that can be stopped in every way."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Self

from shared.errors import OperatorError

if TYPE_CHECKING:
    from types import TracebackType

    from devstack.process import Child

START_SECONDS = 60.0
_TURN_SECONDS = 0.02


class Server:
    """A server on loopback: started until it answers, stopped in an orderly way or by force."""

    name: str
    port: int
    _child: Child | None = None

    def start(self) -> None:
        """Start, and return once the server accepts connections; raise `OperatorError` if not."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there (frozen ones are)."""
        return self._child is not None and self._child.is_running

    def stop(self) -> None:
        """Shut down in an orderly way; do nothing if it is not running."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """Kill with SIGKILL, like a crash."""
        self._running().kill()
        self._child = None

    def restart(self) -> None:
        """Stop and start again, on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing is answered."""
        self._running().pause()

    def resume(self) -> None:
        """Resume a frozen server."""
        self._running().resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _running(self) -> Child:
        if self._child is None:
            raise OperatorError(f"{self.name} is not running")
        return self._child

    def _wait_until_ready(self, child: Child) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if not child.is_running:
                raise OperatorError(f"{self.name} did not start: {_complaint(child.output())}")
            if time.monotonic() > end:
                child.kill()
                raise OperatorError(f"{self.name} did not start within {START_SECONDS:g} s")
            time.sleep(_TURN_SECONDS)
        self._child = child

    def _is_ready(self) -> bool:
        raise NotImplementedError


def _complaint(output: str) -> str:
    """Return the line of a server's output that says why it ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    fatal = [line for line in lines if re.search(r"FATAL|PANIC|Fatal|Failed|could not", line)]
    return (fatal or lines[-1:] or ["it printed nothing"])[0]
