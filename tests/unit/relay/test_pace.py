"""How long changes gather."""

from __future__ import annotations

import pytest

from relay.pace import LEAST_SECONDS, MOST_SECONDS, Pace


def wait_at(rate: float, *, step_seconds: float = 0.001) -> float:
    """The wait after two seconds of changes at this rate."""
    pace, now, wait = Pace(), 100.0, 0.0
    while now < 102:
        gathered = step_seconds + wait
        now += gathered
        wait = pace.next_seconds(round(rate * gathered), step_seconds, now)
    return wait


def test_first_change_after_a_rest_waits_for_nothing_more():
    """One change alone is followed by the shortest wait."""
    assert Pace().next_seconds(1, 0.001, 5.0) == LEAST_SECONDS
    pace = Pace()
    pace.next_seconds(1_000, 0.001, 5.0)
    assert pace.next_seconds(1, 0.001, 15.0) == LEAST_SECONDS


def test_wait_grows_with_the_rate_up_to_a_bound():
    """The more changes, the larger the batches."""
    waits = [wait_at(rate) for rate in (1_000, 2_000, 3_000)]
    assert waits == sorted(waits)
    assert LEAST_SECONDS < waits[0] < waits[2] < MOST_SECONDS
    assert wait_at(50_000) == MOST_SECONDS


@pytest.mark.parametrize(("step", "wait"), [(0.005, 0.005), (0.3, MOST_SECONDS)])
def test_writers_get_as_much_time_as_a_step_took(step, wait):
    """A slow step is followed by a wait as long, within the bound."""
    assert Pace().next_seconds(1, step, 0.0) == wait
