"""Answers of the database that are valid for a moment, each fetched once for all callers.

When ten thousand clients come back at once, what they have in common costs one query. What clients
choose is part of the keys, so nothing here grows with it: an answer is kept for `fresh_seconds` and
among at most `most` others, a lock lives only while it is held or waited for, and few questions run
at a time, so that strangers cannot occupy the pool that live streams need. One of these places is
for questions that were answered before: whatever names strangers make up, clients of tables in use
do not wait behind them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence

K = TypeVar("K", bound="Hashable")
T = TypeVar("T")

FRESH_SECONDS: Final = 1.0
MOST_ANSWERS: Final = 1_000
AT_A_TIME: Final = 3


@dataclass(slots=True)
class _Turn:
    """One question that is being asked, and how many want its answer."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class RecentAnswers:
    """Answers by key."""

    def __init__(
        self,
        *,
        fresh_seconds: float = FRESH_SECONDS,
        most: int = MOST_ANSWERS,
        at_a_time: int = AT_A_TIME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fresh_seconds = fresh_seconds
        self._most = most
        self._places = asyncio.Semaphore(at_a_time)
        self._places_of_new = asyncio.Semaphore(max(1, at_a_time - 1))
        self._clock = clock
        self._answers: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._turns: dict[Hashable, _Turn] = {}

    def __len__(self) -> int:
        """Count what is kept: answers, and questions under way."""
        return len(self._answers) + len(self._turns)

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the recent answer to `key`, or else ask; errors of `ask` are not kept."""

        async def ask_one(_: Sequence[Hashable]) -> dict[Hashable, T]:
            return {key: await ask()}

        return (await self.get_all([key], ask_one))[key]

    async def get_all(
        self, keys: Sequence[K], ask: Callable[[Sequence[K]], Awaitable[Mapping[K, T]]]
    ) -> dict[K, T]:
        """Return the recent answers to `keys`, and ask about the others together.

        A key without an answer is left out, and not kept; nor are errors of `ask`.
        """
        found, wanted = self._fresh(keys)
        if not wanted:
            return found
        question = frozenset(wanted)
        turn = self._turns.setdefault(question, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                found, wanted = self._fresh(keys)
                if wanted:
                    async with self._place(wanted):
                        answers = await ask(wanted)
                    for key, answer in answers.items():
                        self._keep(key, answer)
                    found.update(answers)
                return found
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[question]

    def _fresh(self, keys: Sequence[K]) -> tuple[dict[K, Any], list[K]]:
        """Return the answers that are fresh, and the other keys."""
        now = self._clock()
        found: dict[K, Any] = {}
        others: dict[K, None] = {}
        for key in keys:
            kept = self._answers.get(key)
            if kept is not None and now - kept[0] < self._fresh_seconds:
                found[key] = kept[1]
            else:
                others[key] = None
        return found, list(others)

    @contextlib.asynccontextmanager
    async def _place(self, keys: Sequence[Hashable]) -> AsyncIterator[None]:
        """Wait until a question about keys may run."""
        async with contextlib.AsyncExitStack() as stack:
            if any(key not in self._answers for key in keys):
                await stack.enter_async_context(self._places_of_new)
            await stack.enter_async_context(self._places)
            yield

    def _keep(self, key: Hashable, answer: object) -> None:
        self._answers.pop(key, None)
        while len(self._answers) >= self._most:
            self._answers.popitem(last=False)
        self._answers[key] = self._clock(), answer
