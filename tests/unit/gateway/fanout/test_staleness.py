"""What is called stale, for how long, and why."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fanout.staleness import Pulse, Staleness


def pulse(at: float, **changes: Any) -> Pulse:
    """A pulse of a replica that keeps up; the relay has given a sign of life at this moment."""
    values: dict[str, Any] = {
        "at": at, "newest": (1, 10), "heard_at": 1000.0 + at, "clock": 1000.0 + at,
        "is_standby": True, "is_paused": False, "unreplayed_bytes": 0, "commit_at": 1000.0 + at,
        **changes,
    }  # fmt: skip
    return Pulse(**values)


@pytest.fixture
def staleness() -> Staleness:
    """One that has had a pulse at 100 s."""
    found = Staleness(now=90.0)
    found.on_pulse(pulse(100.0))
    return found


def test_it_grows_until_something_new_comes() -> None:
    """Neither a silent database nor one that repeats itself is fresh; a heartbeat is."""
    staleness = Staleness(now=90.0)
    assert staleness.newest == (0, 0)
    assert staleness.seconds(95.0) == 5.0
    assert "not asked yet" in staleness.reason(95.0)
    staleness.on_pulse(pulse(100.0))
    assert staleness.seconds(101.0) == 1.0
    staleness.on_pulse(pulse(104.0, heard_at=1100.0, clock=1104.0))
    assert staleness.seconds(104.5) == 4.5
    staleness.on_failure("no answer")
    assert staleness.seconds(109.0) == 9.0
    assert staleness.reason(109.0) == "the read database cannot be asked: no answer"
    staleness.on_pulse(pulse(110.0))
    assert staleness.seconds(110.5) == 0.5


def test_a_batch_is_a_sign_of_life(staleness: Staleness) -> None:
    """A relay that is busy with a burst writes batches, if no heartbeat."""
    staleness.on_pulse(pulse(101.5, newest=(1, 11), heard_at=1100.0))
    assert staleness.seconds(102.0) == 0.5


def test_what_ticks_announce_is_missed_at_once(staleness: Staleness) -> None:
    """Since the first tick that names a batch the database lacks, until it has that batch."""
    for batch, now in ((10, 100.0), (11, 100.5), (12, 101.0), (12, 101.02), (13, 101.05)):
        staleness.on_tick(1, batch, now)
    staleness.on_pulse(pulse(102.0, unreplayed_bytes=7))
    assert staleness.seconds(102.0) == 1.5
    assert "received changes and not replayed" in staleness.reason(102.0)
    staleness.on_pulse(pulse(102.5, newest=(1, 11)))
    assert staleness.seconds(102.5) == 1.5
    staleness.on_pulse(pulse(102.6, newest=(1, 13)))
    assert staleness.seconds(102.6) == 0.0


def test_an_invented_number_is_forgotten(staleness: Staleness) -> None:
    """The relay's next tick, of a batch that the database has, ends the lack; memory is bounded."""
    for n in range(2_000):
        staleness.on_tick(1, 10**12 + n, 100.0 + n)
    assert staleness.seconds(2_100.0) == 2_000.0
    assert len(staleness._announced) == 600
    staleness.on_pulse(pulse(2_100.0))
    staleness.on_tick(1, 10, 2_100.0)
    assert staleness.seconds(2_100.0) == 0.0


@pytest.mark.parametrize(
    ("heard_at", "seconds"),
    [
        (1101.0, 0.0),  # the primary's clock is ahead
        (1098.5, 0.0),  # may be a difference between the clocks
        (1040.0, 60.0),
        (None, 0.0),
    ],
)
def test_a_constant_delay_is_seen_by_the_clocks(heard_at: float | None, seconds: float) -> None:
    """A replica that shows each heartbeat a minute late is a minute stale."""
    staleness = Staleness(now=90.0)
    staleness.on_pulse(pulse(100.0, heard_at=heard_at, unreplayed_bytes=5))
    assert staleness.seconds(100.0) == seconds
    assert ("not replayed" in staleness.reason(100.0)) == (seconds > 0)


@pytest.mark.parametrize(
    ("changes", "tick", "words"),
    [
        ({"is_paused": True}, None, "replay is paused"),
        ({}, (2, 5), "ticks are of a newer epoch"),
        ({}, (1, 11), "ticks arrive, but nothing of the relay reaches"),
        ({}, (1, 10), "ticks arrive, but nothing of the relay reaches"),
        ({"commit_at": 1109.0}, None, "no relay has given a sign of life"),
        ({"is_standby": False}, None, "no relay has given a sign of life"),
        ({"commit_at": 1100.0}, None, "nothing reaches the read replica"),
    ],
)
def test_the_likely_cause_is_named(
    staleness: Staleness, changes: dict[str, Any], tick: tuple[int, int] | None, words: str
) -> None:
    """Ten seconds after the last heartbeat, by what else is known."""
    staleness.on_pulse(pulse(110.0, **{"heard_at": 1100.0, "commit_at": 1100.0, **changes}))
    if tick is not None:
        staleness.on_tick(*tick, 109.9)
    assert staleness.seconds(110.0) == 10.0
    assert words in staleness.reason(110.0)


def test_two_relays_are_noticed(staleness: Staleness) -> None:
    """An older one that still sends long after a newer one began; not what was on its way."""
    for now in (101.0, 102.0, 103.0):
        staleness.on_tick(1, 10, now)
        assert staleness.rivals(now) is None
    staleness.on_tick(2, 11, 103.5)
    staleness.on_tick(1, 10, 104.0)
    assert staleness.rivals(104.0) is None
    staleness.on_tick(2, 11, 105.0)
    staleness.on_tick(1, 10, 105.5)
    assert staleness.rivals(105.5) == (1, 2)
    assert staleness.rivals(109.0) is None
    staleness.on_tick(1, 10, 120.0)
    assert staleness.rivals(120.0) is None, "the newer one has ended"
