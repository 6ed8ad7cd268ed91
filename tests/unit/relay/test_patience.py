"""How long a relay waits before it hands the lead over."""

from __future__ import annotations

from relay.session.patience import FIRST_SECONDS, LASTING_SECONDS, MOST_SECONDS, Patience


def test_patience_doubles_while_the_lead_comes_back_at_once():
    """A better relay that fails whenever it leads gets the lead less and less often."""
    patience, now, seen = Patience(), 100.0, []
    patience.on_lead(now)
    for _ in range(10):
        seen.append(patience.seconds)
        patience.on_hand_over(now)
        now += 1.0
        patience.on_lead(now)
    assert seen[:4] == [FIRST_SECONDS, 10.0, 20.0, 40.0]
    assert seen == sorted(seen)
    assert patience.seconds == MOST_SECONDS


def test_a_hand_over_that_lasts_starts_over():
    """If the better relay led for a while, its next failure counts as the first."""
    patience = Patience()
    for now in (0.0, 1.0):
        patience.on_hand_over(now)
        patience.on_lead(now + 0.5)
    assert patience.seconds == 4 * FIRST_SECONDS
    patience.on_lead(5.0)  # lost and taken again without a hand-over
    assert patience.seconds == 4 * FIRST_SECONDS
    patience.on_hand_over(10.0)
    patience.on_lead(10.0 + LASTING_SECONDS)
    assert patience.seconds == FIRST_SECONDS
