"""How long a standby takes the leader to be silent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from relay.session.silence import LeaderSign, Silence

HOUR = timedelta(hours=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SIGN = LeaderSign(7, NOON, NOON)


def test_a_leader_is_silent_while_nothing_of_it_changes():
    """A renewal, a statement or another leader ends the silence, whichever way the clock is set."""
    silence = Silence()
    assert silence.observe(SIGN, 100.0) == 0.0
    assert silence.observe(SIGN, 111.0) == 11.0
    for changed in (
        replace(SIGN, heard_at=NOON - HOUR),
        replace(SIGN, heard_at=NOON + HOUR),
        replace(SIGN, idle_since=NOON - HOUR),
        replace(SIGN, pid=8),
        None,
    ):
        assert silence.observe(changed, 120.0) == 0.0
        assert silence.observe(SIGN, 130.0) == 0.0


def test_a_session_at_work_is_not_silent():
    """However long it works, it waits for nobody."""
    silence = Silence()
    silence.observe(replace(SIGN, idle_since=None), 100.0)
    assert silence.observe(replace(SIGN, idle_since=None), 200.0) == 0.0
    assert silence.observe(SIGN, 300.0) == 0.0
    assert silence.observe(SIGN, 310.0) == 10.0
