"""Failures that count once though several questions met them."""

from __future__ import annotations

from gateway.visibility.strikes import Strikes


def test_questions_under_way_at_once_count_once() -> None:
    """The third question that begins after a failure was counted is out, not the third failure."""
    strikes = Strikes(3)
    for began in (10.0, 10.1, 20.0):
        strikes.count("t", began=began, now=20.0)
    for began in (20.1, 20.2):
        strikes.count("t", began=began, now=30.0)
    assert not strikes.is_out("t")
    strikes.count("t", began=31.0, now=32.0)
    assert strikes.is_out("t")
    assert not strikes.is_out("other")
    strikes.forgive("t")
    assert not strikes.is_out("t")


def test_memory_has_a_bound() -> None:
    """Many tables take no more than a bounded number of places."""
    strikes = Strikes(1)
    for number in range(10_001):
        strikes.count(number, began=1.0, now=2.0)
    assert not strikes.is_out(0)
    assert strikes.is_out(10_000)
