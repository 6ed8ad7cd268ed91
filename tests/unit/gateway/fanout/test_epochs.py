"""Which numbers are good after crashes of Postgres."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout.epochs import Epochs
from shared.position import Position

EPOCHS = Epochs.of({9: 14, 1: 1, 7: 11})


def test_a_number_belongs_to_the_last_epoch_that_gave_it_out() -> None:
    """Epochs may come in any order; a number before all of them is of the first."""
    assert [EPOCHS.epoch_of(batch) for batch in (0, 1, 10, 11, 13, 14, 99)] == [1, 1, 1, 7, 7, 9, 9]
    assert (EPOCHS.current, EPOCHS.current_start) == (9, 14)
    assert (Epochs().current, Epochs().current_start) == (0, 1)


def test_an_epoch_holds_its_numbers_until_the_next_begins() -> None:
    """What lies beyond was taken back; of an unknown epoch nothing holds."""
    assert EPOCHS.holds(1, 10)
    assert not EPOCHS.holds(1, 11)
    assert EPOCHS.holds(9, 15)
    assert not EPOCHS.holds(8, 12)


def test_an_epoch_whose_numbers_were_all_taken_back() -> None:
    """A later epoch may begin where an earlier one did, or before it."""
    epochs = Epochs.of({1: 1, 7: 11, 9: 8})
    assert [epochs.epoch_of(batch) for batch in (7, 8, 11)] == [1, 9, 9]
    assert [epochs.last_before(epoch) for epoch in (1, 7, 9)] == [7, 7, None]


@pytest.mark.parametrize(
    ("position", "survives"),
    [
        (Position(1, 13), Position(1, 10)),
        (Position(1, 9, 3), Position(1, 9)),
        (Position(7, 20), Position(7, 13)),
        (Position(9, 14), Position(9, 14)),
        (Position(9, 99), Position(9, 20)),
        (Position(12, 99), Position(9, 20)),
    ],
)
def test_what_survives_of_a_position(position: Position, survives: Position) -> None:
    """The last whole batch up to it that was not taken back, and no later than the newest."""
    assert EPOCHS.surviving(position, 20) == survives


@pytest.mark.parametrize(
    ("position", "error"),
    [
        (Position(1, 10), None),
        (Position(1, 11), "unknown"),
        (Position(7, 11, 0), None),
        (Position(8, 12), "unknown"),
        (Position(9, 20), None),
        (Position(9, 21), "unknown"),
        (Position(1, 4), None),
        (Position(1, 4, 7), "expired"),
        (Position(1, 3), "expired"),
    ],
)
def test_why_a_position_cannot_be_continued(position: Position, error: str | None) -> None:
    """It is not of this history, or what follows is no longer kept."""
    assert EPOCHS.resume_error(position, newest=20, horizon=5) == error


NOW = 1_735_689_600 + 60_000_000.0


@pytest.mark.parametrize(
    ("position", "may_come"),
    [
        (Position(9, 20), False),
        (Position(9, 21), True),
        (Position(9, 20, 3), False),
        (Position(59_000_000, 21), True),
        (Position(59_000_000, 7), True),
        (Position(59_000_000, 4), False),
        (Position(70_000_000, 21), False),
        (Position(7, 30), False),
        (Position(9, 60_000_000_000), True),
        (Position(9, 999_999_999_999_999_999), False),
    ],
)
def test_a_position_that_another_gateway_may_have_given_out(
    position: Position, may_come: bool
) -> None:
    """It is later than all that is known here, but no later than the clock allows for."""
    assert EPOCHS.may_come(position, newest=20, horizon=5, now=NOW) == may_come


def test_earlier_states_of_the_same_history() -> None:
    """A standby that lags knows the first epochs; another database knows other ones."""
    assert Epochs.of({1: 1, 7: 11}).is_earlier_than(EPOCHS)
    assert not EPOCHS.is_earlier_than(EPOCHS)
    assert not Epochs.of({1: 5}).is_earlier_than(EPOCHS)


@given(st.dictionaries(st.integers(1, 50), st.integers(1, 50), min_size=1), st.integers(1, 60))
def test_an_epoch_holds_what_survives(first_batches: dict[int, int], batch: int) -> None:
    """What survives of any position still holds, and survives again as it is."""
    epochs = Epochs.of(first_batches)
    for epoch in first_batches:
        left = epochs.surviving(Position(epoch, batch), 60)
        assert epochs.holds(left.epoch, left.batch)
        assert epochs.surviving(left, 60) == left
