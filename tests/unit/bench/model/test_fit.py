"""Least squares without negative results."""

from __future__ import annotations

import pytest

from bench.model.fit import non_negative


def test_exact_sums_give_the_costs_that_they_were_made_of() -> None:
    """Two costs of different size are found from three measurements."""
    rows = [[1.0, 1000.0], [2.0, 1000.0], [5.0, 3000.0]]
    assert non_negative(rows, [2100.0, 2200.0, 6500.0]) == pytest.approx([100.0, 2.0])


def test_a_cost_that_would_be_negative_is_zero() -> None:
    """The rest of the measurement is then the other cost's."""
    found = non_negative([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]], [3.0, 2.0, 1.0])
    assert found[0] == 0
    assert found[1] > 0


def test_small_measurements_count_as_much_as_large_ones() -> None:
    """An error of a tenth is one of a tenth, whatever the total."""
    [cost] = non_negative([[1.0], [1000.0]], [1.1, 900.0])
    assert cost == pytest.approx(1.0, abs=0.02)


def test_what_never_varies_by_itself_costs_nothing_twice() -> None:
    """Of two counts that are always equal, one has the whole cost."""
    found = non_negative([[1.0, 1.0], [2.0, 2.0]], [10.0, 20.0])
    assert sum(found) == pytest.approx(10.0)


def test_what_never_happened_costs_nothing() -> None:
    """A count that is zero everywhere cannot have a cost."""
    assert non_negative([[0.0, 1.0], [0.0, 2.0]], [3.0, 6.0]) == pytest.approx([0.0, 3.0])


def test_costs_are_zero_where_none_explains_anything() -> None:
    """Counts that are zero everywhere explain nothing."""
    assert non_negative([[0.0]], [1.0]) == [0.0]


def test_without_a_measurement_there_is_no_cost() -> None:
    """Totals of zero say nothing, and nothing but them is an error."""
    with pytest.raises(ValueError, match="nothing was measured"):
        non_negative([[1.0]], [0.0])
