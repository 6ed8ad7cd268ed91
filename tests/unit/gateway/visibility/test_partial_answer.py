"""gateway.visibility.partial_answer: portions of a question put together."""

from __future__ import annotations

from gateway.visibility.partial_answer import PartialAnswer


def test_extend_counts_on_from_the_images_before():
    """The images of a later portion follow those of the portions before it."""
    answer = PartialAnswer(
        [frozenset({0}), frozenset()],
        undecidable={1},
        superseded={0: {2}},
        broken={1: "22012"},
        rows=1,
    )
    answer.extend(
        PartialAnswer(
            [frozenset(), frozenset({1})],
            undecidable={0},
            superseded={1: {3}},
            broken={2: "P0001"},
            rows=2,
        )
    )
    assert answer == PartialAnswer(
        [frozenset({0}), frozenset(), frozenset(), frozenset({1})],
        undecidable={1, 2},
        superseded={0: {2}, 3: {3}},
        broken={1: "22012", 2: "P0001"},
        rows=3,
    )


def test_add_translates_the_cohorts():
    """An answer about cohorts that were left out names them by their numbers in the question."""
    answer = PartialAnswer(
        [frozenset({0}), frozenset({0}), frozenset()], superseded={0: {1}}, rows=1
    )
    answer.add(
        PartialAnswer(
            [frozenset({1}), frozenset(), frozenset({0, 1})],
            undecidable={1},
            superseded={0: {0}, 2: {1}},
            broken={0: "22P02"},
            rows=4,
        ),
        [3, 5],
    )
    assert answer == PartialAnswer(
        [frozenset({0, 5}), frozenset({0}), frozenset({3, 5})],
        undecidable={1},
        superseded={0: {1, 3}, 2: {5}},
        broken={3: "22P02"},
        rows=5,
    )


def test_among_images_that_others_have_replaced():
    """Whoever sees a row, as it is now or not, sees that its earlier images are superseded."""
    answer = PartialAnswer(
        [frozenset({0}), frozenset(), frozenset({1})],
        undecidable={2},
        superseded={0: {2}, 1: {1}},
        broken={3: "22P02"},
        rows=4,
    )
    assert answer.among(6, [1, 3, 5], {0: 1, 2: 5, 4: 3}) == PartialAnswer(
        [frozenset(), frozenset({0}), frozenset(), frozenset(), frozenset(), frozenset({1})],
        undecidable={5},
        superseded={0: {0, 2}, 1: {2}, 2: {1}, 3: {1}, 4: {1}},
        broken={3: "22P02"},
        rows=4,
    )
    nobody = PartialAnswer([frozenset()])
    assert nobody.among(2, [1], {0: 1}) == PartialAnswer([frozenset(), frozenset()])
