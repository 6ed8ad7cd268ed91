"""What is said of database hosts, and of what they contradict each other in."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from gateway.diagnostics.database_hosts import Server, contradictions, describe_server

SINCE = dt.datetime(2026, 2, 7, 22, 0, tzinfo=dt.UTC)
PRIMARY = {
    "is_standby": False, "has_receiver": False, "sender": None, "is_paused": False,
    "clock": 100.0, "heard_at": 99.5, "leader": "one", "leads_since": SINCE,
}  # fmt: skip
STANDBY = {**PRIMARY, "is_standby": True, "has_receiver": True, "sender": "db:5432"}


def server(name: str, facts: dict[str, Any], system: int = 7, timeline: int = 1) -> Server:
    return Server(name, facts, {"system_identifier": system, "timeline": timeline}, "0" * 16)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (PRIMARY, "ok: primary, timeline 1, led by one, 0.5 s ago"),
        (STANDBY, "ok: standby of db:5432, timeline 1, led by one, 0.5 s ago"),
        (
            {**STANDBY, "sender": None, "heard_at": 101.0},
            (
                "ok: standby of a primary (pg_read_all_stats shows which), timeline 1, led by one, "
                "0.0 s ago"
            ),
        ),
        (
            {**STANDBY, "has_receiver": False},
            (
                "warning: standby, timeline 1 that follows no primary: see primary_conninfo, and "
                "the server's log"
            ),
        ),
        (
            {**STANDBY, "is_paused": True},
            (
                "warning: standby of db:5432, timeline 1: replay is paused: SELECT "
                "pg_wal_replay_resume()"
            ),
        ),
        (
            {**PRIMARY, "heard_at": None},
            "warning: primary, timeline 1: no relay has ever led there",
        ),
        (
            {**STANDBY, "heard_at": 40.0},
            (
                "warning: standby of db:5432, timeline 1: the relay's last sign of life there is "
                "60 s old: no relay leads, or this server lags"
            ),
        ),
    ],
)
def test_a_host_is_described_in_a_line(facts: dict[str, Any], said: str) -> None:
    """What it is, whom it follows, and how old what it has is."""
    assert describe_server(server("a", facts)) == said


def test_a_timeline_that_is_not_shown_is_left_out() -> None:
    """Some managed servers hide it."""
    assert describe_server(Server("a", PRIMARY, None, None)).startswith("ok: primary, led by one")


def test_hosts_that_agree_contradict_nothing() -> None:
    """A primary and its replicas, one of which hides its identity; no relay has led at another."""
    hidden = Server("c", STANDBY, None, None)
    unled = server("d", {**STANDBY, "leader": None})
    assert contradictions([server("a", PRIMARY), server("b", STANDBY), hidden, unled]) == []


def test_each_contradiction_is_a_warning() -> None:
    """Another server's copy, a failover that one has not followed, two primaries, two leaders."""
    assert contradictions([server("a", PRIMARY), server("b", STANDBY, system=8)]) == [
        "warning: the hosts are not copies of one server: a: 7; b: 8"
    ]
    later = {**PRIMARY, "leader": "two", "leads_since": SINCE + dt.timedelta(hours=1)}
    assert contradictions([server("a", PRIMARY), server("b", later, timeline=2)]) == [
        "warning: not every host has followed the last failover: timelines a: 1; b: 2",
        "warning: several primaries: a, b: fence the old one",
        (
            "warning: the hosts name different leaders, so two relays may lead: fence the old "
            "primary: a: one since 2026-02-07 22:00:00; b: two since 2026-02-07 23:00:00"
        ),
    ]
