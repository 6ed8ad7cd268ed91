"""Which tables count as slow, and for how long."""

from __future__ import annotations

from gateway.fanout import slow_tables
from gateway.fanout.slow_tables import CALM_SECONDS, PATIENCE_SECONDS, SlowTables
from tests.unit.gateway.fanout.test_subscriptions import connection

A, B = ("public.a", "r"), ("public.b", "r")


def test_a_table_is_slow_until_it_was_quick_for_a_while() -> None:
    """Only questions that take longer than the others would wait count."""
    slow = SlowTables()
    slow.note(A, PATIENCE_SECONDS / 2, 0.0)
    assert slow.seconds(A, 0.0) == 0.0
    slow.note(A, 1.0, 0.0)
    slow.note(A, 0.01, 1.0)
    assert slow.seconds(A, CALM_SECONDS - 0.1) == 1.0
    slow.note(A, 2.0, CALM_SECONDS - 0.1)
    assert slow.seconds(A, CALM_SECONDS) == 2.0
    assert slow.seconds(A, 2 * CALM_SECONDS - 0.1) == 0.0


def test_a_table_that_turns_slow_again_and_again_stays_so_for_longer() -> None:
    """The others wait for it in vain a bounded share of their time."""
    slow = SlowTables()
    now, waits = 0.0, []
    for _ in range(9):
        slow.note(A, 1.0, now)
        began = now
        while slow.seconds(A, now):
            now += 1.0
        waits.append(now - began)
    assert waits[:4] == [5.0, 10.0, 20.0, 40.0]
    assert waits[-1] == waits[-2] == 320.0


def test_a_connection_is_served_at_the_pace_of_its_slowest_table() -> None:
    """Of two slow tables the slower; of another role's, none."""
    slow = SlowTables()
    both = connection("public.a", "public.b")
    assert slow.slowest_of(both, 0.0) is None
    slow.note(A, 1.0, 0.0)
    slow.note(B, 2.0, 0.0)
    assert slow.slowest_of(both, 0.0) == B
    assert slow.slowest_of(connection("public.a"), 0.0) == A
    assert slow.slowest_of(connection("public.a", role="other"), 0.0) is None
    assert slow.slowest_of(connection("public.a", role=None), 0.0) is None
    assert slow.slowest_of(both, CALM_SECONDS) is None


def test_what_is_remembered_is_bounded(monkeypatch) -> None:
    """Those that have been quick for long go first, then the oldest."""
    monkeypatch.setattr(slow_tables, "_MOST_KEPT", 2)
    slow = SlowTables()
    for n in range(3):
        slow.note((f"t{n}", "r"), 1.0, 0.0)
    assert [bool(slow.seconds((f"t{n}", "r"), 0.0)) for n in range(3)] == [False, True, True]
    slow.note(A, 1.0, 1_000.0)
    assert slow.seconds(A, 1_000.0)
    assert len(slow._slow) == 1
