"""Reading the rows of the joined form's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.visibility.cohort_set import cohorts_from
from gateway.visibility.joined.statement import EXCLUDED, GROUP, REST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

Row = tuple[int, "list[int] | None", "list[int] | None"]
"""Kind, images and groups of cohorts; images and groups are numbered from 1."""


def excluded_cohorts(rows: Sequence[Row]) -> list[int]:
    """List the cohorts that were left out, numbered from 0."""
    return [n - 1 for kind, _, cohorts in rows if kind == EXCLUDED for n in cohorts or ()]


def groups_of(rows: Sequence[Row]) -> dict[int, list[int]]:
    """Map each group that the rows define, numbered from 1, to its cohorts, numbered from 0."""
    return {
        numbers[0]: [n - 1 for n in cohorts or ()]
        for kind, numbers, cohorts in rows
        if kind == GROUP and numbers
    }


def read_joined(
    rows: Sequence[Row],
    groups: Mapping[int, Sequence[int]] | int,
    images: int,
    everybody: AbstractSet[int] | None = None,
) -> list[AbstractSet[int]]:
    """Collect the cohorts that see each image; images seen by the same cohorts share a set.

    `groups` maps each group that was asked about to its cohorts, or is their number if each cohort
    is its own group. `everybody` are the cohorts meant by an answer that lists none: those of all
    groups, unless others would have got the same answer.
    """
    rows = [row for row in rows if row[0] not in (EXCLUDED, GROUP) and row[1]]
    asked: AbstractSet[int] = frozenset()
    if any(kind == REST or (listed is None and everybody is None) for kind, _, listed in rows):
        asked = _cohorts_of(
            groups, range(1, groups + 1) if isinstance(groups, int) else list(groups)
        )
    seen: list[AbstractSet[int]] = [frozenset()] * images
    for kind, numbers, listed in rows:
        if listed is None:
            cohorts = asked if everybody is None else everybody
        elif kind == REST:
            cohorts = asked - _cohorts_of(groups, listed)
        else:
            cohorts = _cohorts_of(groups, listed)
        for number in numbers or ():
            before = seen[number - 1]
            seen[number - 1] = before | cohorts if before else cohorts
    return seen


def _cohorts_of(
    groups: Mapping[int, Sequence[int]] | int, numbers: Sequence[int]
) -> AbstractSet[int]:
    if isinstance(groups, int):
        return cohorts_from((n - 1 for n in numbers), len(numbers), groups)
    found = [cohort for n in numbers for cohort in groups[n]]
    return cohorts_from(found, len(found), max(found, default=-1) + 1)
