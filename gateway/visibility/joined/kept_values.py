"""The values of setting expressions that are kept, and the groups of cohorts that share them.

Postgres computes them once for the settings of a cohort, and they stay for as long as the rules do.
Cohorts with the same values are one group: of ten thousand users of fifty organisations, fifty are
asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.visibility.cohorts import Grouping

Values = tuple["str | None", ...]
"""One value for each expression, as Postgres writes it."""


@dataclass(frozen=True, slots=True)
class ValueGroups:
    """Cohorts grouped by their values.

    `flat` has all values of the first expression, then all of the second, and so on. `groups` are
    the cohorts of each group, by its number from 1, or the number of cohorts where each is a group
    of its own. `excluded` are those for which an expression raises.
    """

    flat: Sequence[str | None]
    groups: Mapping[int, Sequence[int]] | int
    excluded: Sequence[int]


class KeptValues:
    """The kept values of one plan, for the cohorts that are there now.

    `is_grouping` false leaves each cohort a group of its own, as computed values need it.
    """

    def __init__(self, expressions: int, *, is_grouping: bool = True) -> None:
        self._expressions = expressions
        self._is_grouping = is_grouping
        self._known: dict[tuple[str, ...], Values | None] = {}
        self._grouping: Grouping[Any] | None = None
        self._groups: ValueGroups | None = None

    def missing(self, grouping: Grouping[Any]) -> list[int]:
        """List the cohorts whose values are not known yet."""
        if grouping is self._grouping:
            return []
        known = self._known
        return [n for n, values in enumerate(grouping.values) if values not in known]

    def learn(
        self, grouping: Grouping[Any], cohorts: Sequence[int], found: Sequence[Values | None]
    ) -> None:
        """Take the values of these cohorts; None where an expression raises."""
        for cohort, values in zip(cohorts, found, strict=True):
            self._known[grouping.values[cohort]] = values

    def grouped(self, grouping: Grouping[Any]) -> ValueGroups:
        """Group the cohorts, all of which must be known; those that are gone are forgotten."""
        if grouping is not self._grouping or self._groups is None:
            self._known = {values: self._known[values] for values in grouping.values}
            self._grouping = grouping
            self._groups = self._group(list(self._known.values()))
        return self._groups

    def _group(self, found: Sequence[Values | None]) -> ValueGroups:
        excluded = [n for n, values in enumerate(found) if values is None]
        groups: dict[Any, list[int]] = {}
        for cohort, values in enumerate(found):
            if values is not None:
                key = values if self._is_grouping else cohort
                groups.setdefault(key, []).append(cohort)
        rows = list(groups) if self._is_grouping else [v for v in found if v is not None]
        flat = [values[n] for n in range(self._expressions) for values in rows]
        if len(groups) == len(found):
            return ValueGroups(flat, len(found), excluded)
        numbered = dict(enumerate(groups.values(), 1))
        return ValueGroups(flat, numbered, excluded)
