"""Starting and ending tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    Spawn = Callable[[Coroutine[Any, Any, None], str], object]
    """Starts a named task that the caller does not wait for."""

_AGAIN_SECONDS: Final = 0.5


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks repeatedly until each has ended.

    One cancellation can get lost: redis-py turns it into an error of its own while it connects, and
    a task group (Python 3.11) whose tasks fail while it is cancelled raises only their errors,
    after which a loop that survives errors continues.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
