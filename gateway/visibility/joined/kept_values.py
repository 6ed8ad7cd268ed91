"""The kept values of setting expressions, and the groups of cohorts that share them.

Postgres computes them once for the settings of a cohort, and they are kept as long as the rules do
not change. Cohorts with the same values form one group: for ten thousand users of fifty
organisations, only fifty groups are asked about.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.visibility.joined.packed_texts import PackedTexts, pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.visibility.cohorts import Grouping

Values = tuple["str | None", ...]
"""One value for each expression, as Postgres writes it."""

_MOST_GROUPINGS: Final = 4
_MOST_SPARE: Final = 10_000


@dataclass(frozen=True, slots=True)
class ValueGroups:
    """Cohorts grouped by their values.

    `flat` has all values of the first expression, then all of the second, and so on; `packed` is
    the same as it is sent. `groups` maps the number of each group, from 1, to its cohorts, or is
    the number of cohorts if each is a group of its own. `excluded` are the cohorts for which an
    expression raises.
    """

    flat: Sequence[str | None]
    packed: PackedTexts
    groups: Mapping[int, Sequence[int]] | int
    excluded: Sequence[int]


class KeptValues:
    """The kept values of one plan.

    The live stream, replay and the self-check ask about different cohorts of the same table and
    share these values, which are forgotten only once there are many more than any of them needs.
    If `is_grouping` is false, each cohort remains a group of its own, as computed values require.
    """

    def __init__(self, expressions: int, *, is_grouping: bool = True) -> None:
        self._expressions = expressions
        self._is_grouping = is_grouping
        self._known: dict[tuple[str, ...], Values | None] = {}
        self._recent: OrderedDict[int, tuple[Grouping[Any], ValueGroups]] = OrderedDict()

    def missing(self, grouping: Grouping[Any]) -> list[int]:
        """List the cohorts whose values are not known."""
        if self._cached(grouping) is not None:
            return []
        known = self._known
        return [n for n, values in enumerate(grouping.values) if values not in known]

    def learn(
        self, grouping: Grouping[Any], cohorts: Sequence[int], found: Sequence[Values | None]
    ) -> None:
        """Record the values of these cohorts; None if an expression raises."""
        for cohort, values in zip(cohorts, found, strict=True):
            self._known[grouping.values[cohort]] = values

    def grouped(self, grouping: Grouping[Any]) -> ValueGroups:
        """Group the cohorts, none of which is missing."""
        groups = self._cached(grouping)
        if groups is None:
            groups = self._group([self._known[values] for values in grouping.values])
            self._recent[id(grouping)] = grouping, groups
            while len(self._recent) > _MOST_GROUPINGS:
                self._recent.popitem(last=False)
            self._forget()
        return groups

    def _cached(self, grouping: Grouping[Any]) -> ValueGroups | None:
        # The grouping is held here, so no other grouping can have the same id.
        found = self._recent.get(id(grouping))
        return None if found is None else found[1]

    def _forget(self) -> None:
        """Forget cohorts that are gone if there are many of them."""
        groupings = [grouping for grouping, _ in self._recent.values()]
        if len(self._known) > 2 * max(map(len, groupings)) + _MOST_SPARE:
            wanted = {values for grouping in groupings for values in grouping.values}
            self._known = {v: known for v, known in self._known.items() if v in wanted}

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
            return ValueGroups(flat, pack(flat), len(found), excluded)
        numbered = dict(enumerate(groups.values(), 1))
        return ValueGroups(flat, pack(flat), numbered, excluded)
