"""Waiting times between tries."""

from __future__ import annotations

import random

import pytest

from shared.backoff import Backoff


def test_waits_double_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without jitter the waits are the bounds: doubled with each failure, then steady."""
    monkeypatch.setattr(random, "random", lambda: 1.0)
    backoff = Backoff(first_seconds=0.05, most_seconds=5.0)
    assert [backoff.next_seconds() for _ in range(9)] == [
        pytest.approx(seconds) for seconds in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)
    ]


def test_waits_are_drawn_from_the_upper_half() -> None:
    """Jitter takes at most half a wait away, so that a herd spreads and nobody tries at once."""
    waits = [Backoff(first_seconds=2.0, most_seconds=2.0).next_seconds() for _ in range(1_000)]
    assert all(1.0 <= seconds <= 2.0 for seconds in waits)
    assert max(waits) - min(waits) > 0.5


def test_a_success_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reset the next failure waits as briefly as the first one did."""
    monkeypatch.setattr(random, "random", lambda: 1.0)
    backoff = Backoff(first_seconds=0.5, most_seconds=8.0)
    assert [backoff.next_seconds() for _ in range(3)] == [0.5, 1.0, 2.0]
    backoff.reset()
    assert backoff.next_seconds() == 0.5


def test_a_long_outage_does_not_overflow() -> None:
    """Thousands of failures in a row still wait no longer than the bound."""
    backoff = Backoff()
    assert all(backoff.next_seconds() <= 5.0 for _ in range(5_000))
