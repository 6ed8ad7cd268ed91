"""Reading the rows of the joined form's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.visibility.joined.statement import EXCLUDED, REST

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[int, "list[int] | None", "list[int] | None"]
"""Kind, images and cohorts; these count from 1."""


def excluded_cohorts(rows: Sequence[Row]) -> list[int]:
    """Give the cohorts that were left out, from 0."""
    return [n - 1 for kind, _, cohorts in rows if kind == EXCLUDED for n in cohorts or ()]


def read_joined(rows: Sequence[Row], cohorts: int, images: int) -> list[frozenset[int]]:
    """Put together who sees each image. Images seen by the same cohorts share one set."""
    everybody = frozenset(range(cohorts))
    seen: list[frozenset[int]] = [frozenset()] * images
    for kind, numbers, listed in rows:
        if kind == EXCLUDED or not numbers:
            continue
        if listed is None:
            who = everybody
        elif kind == REST:
            who = everybody.difference(n - 1 for n in listed)
        else:
            who = frozenset(n - 1 for n in listed)
        for number in numbers:
            before = seen[number - 1]
            seen[number - 1] = before | who if before else who
    return seen
