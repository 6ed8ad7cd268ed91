"""Reading the rows of the joined form's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.visibility.joined.statement import EXCLUDED, GROUP, REST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Row = tuple[int, "list[int] | None", "list[int] | None"]
"""Kind, images and groups of cohorts; these count from 1."""


def excluded_cohorts(rows: Sequence[Row]) -> list[int]:
    """List the cohorts that were left out, from 0."""
    return [n - 1 for kind, _, cohorts in rows if kind == EXCLUDED for n in cohorts or ()]


def groups_of(rows: Sequence[Row]) -> dict[int, list[int]]:
    """List the cohorts, from 0, of each group that the rows make, by its number from 1."""
    return {
        numbers[0]: [n - 1 for n in cohorts or ()]
        for kind, numbers, cohorts in rows
        if kind == GROUP and numbers
    }


def read_joined(
    rows: Sequence[Row], groups: Mapping[int, Sequence[int]] | int, images: int
) -> list[frozenset[int]]:
    """Put together which cohorts see each image; images seen by the same ones share a set.

    `groups` are the cohorts of each group, or a number where each cohort is a group of its own.
    """
    everybody = _cohorts_of(groups, range(1, groups + 1) if isinstance(groups, int) else groups)
    seen: list[frozenset[int]] = [frozenset()] * images
    for kind, numbers, listed in rows:
        if kind in (EXCLUDED, GROUP) or not numbers:
            continue
        if listed is None:
            cohorts = everybody
        elif kind == REST:
            cohorts = everybody - _cohorts_of(groups, listed)
        else:
            cohorts = _cohorts_of(groups, listed)
        for number in numbers:
            before = seen[number - 1]
            seen[number - 1] = before | cohorts if before else cohorts
    return seen


def _cohorts_of(
    groups: Mapping[int, Sequence[int]] | int, numbers: Iterable[int]
) -> frozenset[int]:
    if isinstance(groups, int):
        return frozenset(n - 1 for n in numbers)
    return frozenset(cohort for n in numbers for cohort in groups[n])
