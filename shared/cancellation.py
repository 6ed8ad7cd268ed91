"""Cancellations that got lost on the way."""

from __future__ import annotations

import asyncio


def heed_cancellation() -> None:
    """Be cancelled, if this task was told so and has not noticed.

    A task group whose tasks fail while it is cancelled raises only their errors (Python 3.11), and
    redis-py's timeouts can turn a cancellation into an error of theirs. So a loop that goes on
    after errors asks here first, or it would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
