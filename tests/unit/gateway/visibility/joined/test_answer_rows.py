"""gateway.visibility.joined.answer_rows: the rows of the joined form's answer."""

from __future__ import annotations

from gateway.visibility.cohort_set import CohortSet
from gateway.visibility.joined.answer_rows import excluded_cohorts, groups_of, read_joined


def test_reading_answers():
    """Products, rests and exclusions are put together; equal answers share one set."""
    rows = [(0, None, [3]), (1, [1, 4], [1, 2]), (1, [2], None), (2, [3], [1]), (1, [3], [1])]
    assert excluded_cohorts(rows) == [2]
    seen = read_joined(rows, 4, 5)
    assert seen == [{0, 1}, {0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1}, set()]
    assert seen[0] is seen[3]


def test_groups():
    """Answers about groups are answers about their cohorts; whoever is in none sees nothing."""
    rows = [(0, None, [5]), (3, [1], [1, 3]), (3, [2], [2]), (1, [1], [1]), (1, [2], None),
            (2, [3], [1]), (1, None, [1])]  # fmt: skip
    groups = groups_of(rows)
    assert groups == {1: [0, 2], 2: [1]}
    assert read_joined(rows, groups, 3) == [{0, 2}, {0, 1, 2}, {1}]


def test_of_many_cohorts_large_answers_are_bits():
    """An answer that lists all it is about needs no set of everybody; both forms are right."""
    rows = [(1, [1], [7]), (1, [2], list(range(1, 6_000)))]
    few, many = read_joined(rows, 10_000, 2)
    assert isinstance(few, frozenset)
    assert isinstance(many, CohortSet)
    assert few == {6}
    assert many == set(range(5_999))


def test_about_some_of_the_groups():
    """Of candidates, "all but these" means of them; "all" still means everybody."""
    rows = [(1, [1], None), (2, [2], [1]), (1, [3], [2])]
    assert read_joined(rows, {1: (4,), 2: (7,)}, 3, frozenset(range(9))) == [
        set(range(9)), {7}, {7},
    ]  # fmt: skip
