"""Turns: every client is served in the end, however many others come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout.fair_turns import FairTurns


def test_who_comes_later_waits():
    """Newcomers are served when those who were there before them are done."""
    turn = FairTurns[str]()
    assert turn.choose(["a", "b"]) == ["a", "b"]
    assert turn.choose(["a", "b", "c"]) == ["a", "b"]
    assert turn.choose(["c", "b"]) == ["b"]
    assert turn.choose(["c", "d"]) == ["c", "d"]


def test_nobody_waits():
    """With nobody waiting nobody is served."""
    turn = FairTurns[str]()
    assert turn.choose([]) == []
    assert turn.choose(["a"]) == ["a"]
    assert turn.choose([]) == []
    assert turn.choose(["b"]) == ["b"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=60))
def test_each_is_served_after_one_turn(arrivals: list[int]):
    """Whoever takes three services to be done waits for no more than the turn under way, though
    others come all the time."""
    turn = FairTurns[int]()
    services: dict[int, int] = {}
    waited: dict[int, int] = {}
    number = 0
    for count in arrivals:
        for number in range(number + 1, number + 1 + count):  # noqa: B020 (goes on counting)
            services[number], waited[number] = 3, 0
        served = turn.choose(list(services))
        assert served
        for one in list(services):
            if one not in served:
                waited[one] += 1
                assert waited[one] <= 3
                continue
            services[one] -= 1
            if not services[one]:
                del services[one]
