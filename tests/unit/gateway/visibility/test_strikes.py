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
    assert not strikes.is_out("t", 30.0)
    strikes.count("t", began=31.0, now=32.0)
    assert strikes.is_out("t", 32.0)
    assert not strikes.is_out("other", 32.0)
    strikes.forgive("t")
    assert not strikes.is_out("t", 32.0)


def test_only_an_answer_about_what_failed_forgives() -> None:
    """Others say nothing of it, however many there are."""
    strikes = Strikes(2)
    for now in (10.0, 20.0):
        strikes.count("t", began=now, now=now, about=7)
        strikes.forgive("t", (5, 6, 8))
    assert strikes.is_out("t", 20.0)
    strikes.forgive("t", (6, 7))
    assert not strikes.is_out("t", 20.0)


def test_failures_of_long_ago_do_not_count() -> None:
    """Neither towards another failure, nor when the next question is asked."""
    strikes = Strikes(2)
    strikes.count("t", began=10.0, now=10.0, about=7)
    strikes.count("t", began=100.0, now=100.0, about=8)
    assert not strikes.is_out("t", 100.0)
    strikes.count("t", began=101.0, now=101.0, about=8)
    assert strikes.is_out("t", 160.0)
    assert not strikes.is_out("t", 162.0)


def test_memory_has_a_bound() -> None:
    """Many tables take no more than a bounded number of places."""
    strikes = Strikes(1)
    for number in range(10_001):
        strikes.count(number, began=1.0, now=2.0)
    assert not strikes.is_out(0, 2.0)
    assert strikes.is_out(10_000, 2.0)
