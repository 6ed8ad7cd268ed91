"""Least squares without negative results: what each of several things costs, from their sums.

A cost cannot be negative, and ordinary least squares makes it so where the measurements scatter.
With a handful of unknowns all subsets of them can be tried: the best fit whose numbers are all
positive or zero is the solution of the non-negative problem (Lawson and Hanson, "Solving Least
Squares Problems", chapter 23, whose active sets are these subsets).
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SINGULAR = 1e-12


def non_negative(rows: Sequence[Sequence[float]], totals: Sequence[float]) -> list[float]:
    """Return the unknowns x >= 0 for which each row, multiplied by x, comes closest to its total.

    Errors count in proportion to the total, so that small measurements count as much as large ones.
    Rows with a total of zero or less say nothing and are left out. Raises `ValueError` if no row is
    left.
    """
    scaled = [
        [value / total for value in row]
        for row, total in zip(rows, totals, strict=True)
        if total > 0
    ]
    if not scaled:
        raise ValueError("nothing was measured")
    unknowns = range(len(scaled[0]))
    best, least = [0.0] * len(scaled[0]), float(len(scaled))  # all zero: each error is 1
    subsets = chain.from_iterable(combinations(unknowns, size) for size in range(1, len(best) + 1))
    for subset in subsets:
        found = _solve([[row[i] for i in subset] for row in scaled])
        if found is None or min(found) < 0:
            continue
        error = sum(
            (sum(row[i] * x for i, x in zip(subset, found, strict=True)) - 1) ** 2 for row in scaled
        )
        if error < least:
            least = error
            best = [0.0] * len(best)
            for i, x in zip(subset, found, strict=True):
                best[i] = x
    return best


def _solve(rows: Sequence[Sequence[float]]) -> list[float] | None:
    """Solve the normal equations for totals of 1, None if they have no single solution."""
    size = len(rows[0])
    scale = [max(abs(row[i]) for row in rows) for i in range(size)]
    if min(scale) == 0:
        return None
    unit = [[value / most for value, most in zip(row, scale, strict=True)] for row in rows]
    matrix = [
        [sum(row[i] * row[j] for row in unit) for j in range(size)] + [sum(row[i] for row in unit)]
        for i in range(size)
    ]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(matrix[r][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        if abs(matrix[i][i]) < _SINGULAR:
            return None
        for other in range(size):
            if other != i:
                factor = matrix[other][i] / matrix[i][i]
                matrix[other] = [
                    a - factor * b for a, b in zip(matrix[other], matrix[i], strict=True)
                ]
    return [matrix[i][size] / matrix[i][i] / scale[i] for i in range(size)]
