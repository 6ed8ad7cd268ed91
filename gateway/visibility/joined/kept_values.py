"""The kept values of setting expressions, and the groups of cohorts that share them.

Postgres computes them once for the settings of a cohort, and they are kept as long as the rules do
not change. Cohorts with the same values form one group: for ten thousand users of fifty
organisations, only fifty groups are asked about.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from gateway.visibility.cohort_set import cohorts_from
from gateway.visibility.joined.packed_texts import PackedTexts, pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from gateway.visibility.cohorts import Grouping

Values = tuple["str | None", ...]
"""One value for each expression, as Postgres writes it."""

_MOST_GROUPINGS: Final = 4
_MOST_SPARE: Final = 10_000


class ValueGroups:
    """Cohorts grouped by their values; it never changes.

    `flat` has all values of the first expression, then all of the second, and so on. `groups` maps
    the number of each group, from 1, to its cohorts, or is the number of cohorts if each is a group
    of its own. `excluded` are the cohorts for which an expression raises.
    """

    def __init__(
        self,
        flat: Sequence[str | None],
        groups: Mapping[int, Sequence[int]] | int,
        excluded: Sequence[int],
    ) -> None:
        self.flat: Final = flat
        self.groups: Final = groups
        self.excluded: Final = excluded
        self._by_value: dict[int, dict[str, list[int]]] = {}
        self._packed: PackedTexts | None = None
        self._everybody: AbstractSet[int] | None = None

    def __len__(self) -> int:
        return self.groups if isinstance(self.groups, int) else len(self.groups)

    @property
    def packed(self) -> PackedTexts:
        """The values as they are sent."""
        if self._packed is None:
            self._packed = pack(self.flat)
        return self._packed

    @property
    def everybody(self) -> AbstractSet[int]:
        """The cohorts that are in a group."""
        if self._everybody is None:
            numbers = (
                list(range(self.groups))
                if isinstance(self.groups, int)
                else [n for cohorts in self.groups.values() for n in cohorts]
            )
            self._everybody = cohorts_from(numbers, len(numbers), max(numbers, default=-1) + 1)
        return self._everybody

    def by_value(self, expression: int) -> Mapping[str, Sequence[int]]:
        """Return the numbers of the groups that have each value of an expression."""
        found = self._by_value.get(expression)
        if found is None:
            found = self._by_value[expression] = {}
            for number, value in enumerate(self._values(expression), 1):
                if value is not None:
                    found.setdefault(value, []).append(number)
        return found

    def some(self, numbers: Sequence[int]) -> ValueGroups:
        """Return some of the groups, by their numbers, with new numbers in that order."""
        flat = [
            values[n - 1]
            for values in map(self._values, range(len(self.flat) // max(1, len(self))))
            for n in numbers
        ]
        groups = self.groups
        members = (
            {new: (n - 1,) for new, n in enumerate(numbers, 1)}
            if isinstance(groups, int)
            else {new: groups[n] for new, n in enumerate(numbers, 1)}
        )
        return ValueGroups(flat, members, self.excluded)

    def _values(self, expression: int) -> Sequence[str | None]:
        return self.flat[expression * len(self) : (expression + 1) * len(self)]


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
            return ValueGroups(flat, len(found), excluded)
        return ValueGroups(flat, dict(enumerate(groups.values(), 1)), excluded)
