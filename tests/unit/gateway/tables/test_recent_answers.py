"""Answers that are shared and forgotten."""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from gateway.tables.recent_answers import RecentAnswers

if TYPE_CHECKING:
    from collections.abc import Sequence


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Question:
    """Counts how often it is asked; answers when let."""

    def __init__(self, *, waits: bool = False) -> None:
        self.asked = 0
        self.running = 0
        self.most_running = 0
        self.let = asyncio.Event()
        if not waits:
            self.let.set()

    async def __call__(self) -> int:
        self.asked += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.let.wait()
        finally:
            self.running -= 1
        return self.asked


async def test_all_who_ask_the_same_wait_for_one_answer() -> None:
    """A crowd costs one question."""
    answers, question = RecentAnswers(), Question(waits=True)
    crowd = [asyncio.create_task(answers.get("key", question)) for _ in range(100)]
    await asyncio.sleep(0)
    question.let.set()
    assert set(await asyncio.gather(*crowd)) == {1}


async def test_an_answer_is_fresh_for_a_while() -> None:
    """It is asked again once the answer is old."""
    clock = Clock()
    answers, question = RecentAnswers(fresh_seconds=1, clock=clock), Question()
    assert [await answers.get("key", question) for _ in range(3)] == [1, 1, 1]
    clock.now = 1.0
    assert await answers.get("key", question) == 2


async def test_nothing_grows_with_the_keys() -> None:
    """However many keys strangers make up, only the most recent answers are kept."""
    answers, question = RecentAnswers(most=10), Question()
    for number in range(1_000):
        await answers.get(number, question)
    assert len(answers) == 10
    assert await answers.get(999, question) == 1_000
    assert await answers.get(0, question) == 1_001


async def test_a_failed_question_leaves_nothing() -> None:
    """An error reaches everyone who asked, and is asked again next time."""
    answers = RecentAnswers()

    async def fail() -> None:
        raise LookupError

    for number in range(100):
        with pytest.raises(LookupError):
            await answers.get(number, fail)
    assert len(answers) == 0


async def test_a_cancelled_caller_does_not_cancel_the_others() -> None:
    """A cancelled question is asked again for those who still wait, and leaves nothing behind."""
    answers, question = RecentAnswers(), Question(waits=True)
    first = asyncio.create_task(answers.get("key", question))
    second = asyncio.create_task(answers.get("key", question))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    question.let.set()
    assert await second == 2
    assert len(answers) == 1


async def test_few_questions_run_at_a_time() -> None:
    """A flood of different questions leaves the pool to the streams, and a place to those known."""
    answers, question = RecentAnswers(at_a_time=3), Question(waits=True)
    flood = [asyncio.create_task(answers.get(number, question)) for number in range(20)]
    for _ in range(5):
        await asyncio.sleep(0)
    question.let.set()
    await asyncio.gather(*flood)
    assert question.most_running == 2


async def test_what_was_asked_before_does_not_wait_behind_new_names() -> None:
    """A client that asks about many names nobody has asked about keeps one place free."""
    clock = Clock()
    answers, strange = RecentAnswers(at_a_time=3, clock=clock), Question(waits=True)
    assert await answers.get("in use", Question()) == 1
    clock.now = 2.0
    strangers = [asyncio.create_task(answers.get(n, strange)) for n in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await answers.get("in use", Question()) == 1
    assert strange.most_running == 2
    strange.let.set()
    await asyncio.gather(*strangers)


async def test_lists_share_the_answers_to_their_parts() -> None:
    """Ever new selections and orders of the same parts ask nothing, and push nothing out."""
    answers, asked = RecentAnswers(most=10), []

    async def ask(keys: Sequence[str]) -> dict[str, str]:
        asked.append(tuple(keys))
        return {key: key.upper() for key in keys if key != "unknown"}

    assert await answers.get("other", Question()) == 1
    assert await answers.get_all(["a", "b"], ask) == {"a": "A", "b": "B"}
    assert await answers.get_all(["c", "a", "c"], ask) == {"a": "A", "c": "C"}
    for keys in permutations(["a", "b", "c"]):
        await answers.get_all(keys, ask)
    assert asked == [("a", "b"), ("c",)]
    assert await answers.get_all(["unknown", "a"], ask) == {"a": "A"}
    assert await answers.get_all(["unknown"], ask) == {}
    assert asked[2:] == [("unknown",), ("unknown",)]
    assert await answers.get("other", Question(waits=True)) == 1
    assert len(answers) == 4
