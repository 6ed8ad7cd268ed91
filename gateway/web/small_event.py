"""An event that takes little memory while hardly anyone waits for it."""

from __future__ import annotations

import asyncio


class SmallEvent:
    """Does what `asyncio.Event` does, in 48 bytes instead of 760.

    That one has a double-ended queue for those who wait, which takes memory even while it is empty,
    and the server has two events for each of thousands of streams.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiting: list[asyncio.Future[bool]] | None = None

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all that wait."""
        self._is_set = True
        waiting, self._waiting = self._waiting, None
        for future in waiting or ():
            if not future.done():
                future.set_result(True)

    def clear(self) -> None:
        """Make those that come from now on wait."""
        self._is_set = False

    async def wait(self) -> bool:
        """Wait until it is set; returns True."""
        if not self._is_set:
            future = asyncio.get_running_loop().create_future()
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(future)
            try:
                await future
            finally:
                if self._waiting is not None and future in self._waiting:
                    self._waiting.remove(future)
        return True
