from __future__ import annotations

import asyncio
import random

import pytest

from gateway.web.small_event import SmallEvent


@pytest.mark.parametrize("seed", range(20))
async def test_it_does_what_the_standard_one_does(seed: int) -> None:
    """Beside `asyncio.Event`, under the same random steps: the same tasks wake, in order."""
    chance = random.Random(seed)
    events: tuple[SmallEvent | asyncio.Event, ...] = (SmallEvent(), asyncio.Event())
    woken: tuple[list[int], list[int]] = ([], [])
    tasks: list[list[asyncio.Task[None]]] = [[], []]

    async def wait(which: int, number: int) -> None:
        assert await events[which].wait()
        woken[which].append(number)

    for number in range(60):
        step = chance.choice(["wait", "wait", "set", "clear", "cancel", "run"])
        victim = chance.random()
        for which, event in enumerate(events):
            if step == "wait":
                tasks[which].append(asyncio.ensure_future(wait(which, number)))
            elif step == "set":
                event.set()
            elif step == "clear":
                event.clear()
            elif step == "cancel" and tasks[which]:
                tasks[which][int(victim * len(tasks[which]))].cancel()
        if step == "run":
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert woken[0] == woken[1]
        assert events[0].is_set() == events[1].is_set()
    for event in events:
        event.set()
    await asyncio.gather(*tasks[0], *tasks[1], return_exceptions=True)
    assert woken[0] == woken[1]
    assert [task.cancelled() for task in tasks[0]] == [task.cancelled() for task in tasks[1]]
