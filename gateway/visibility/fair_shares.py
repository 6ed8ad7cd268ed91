"""Which cohorts of a question are asked first, and which may be left for later.

Cohorts that are asked one by one take time from each other, and a user may have as many as tokens.
So time is charged to users. A user whose cohorts have taken several times the median is *costly*.
All other users are asked first. Once they are answered, what is left of the costly ones may be
postponed, so that the answer does not wait for them. What each user cost in the last question about
a table is kept, and the next question begins with the users who are not costly.
"""

from __future__ import annotations

from statistics import median_low
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.visibility.cohorts import Settings

_LEAST_SHARE: Final = 0.1
"""Of the time that a question should take: no user is costly below that."""
_TIMES_THE_MEDIAN: Final = 4
_MOST_KEPT: Final = 10_000


class FairShares:
    """The order of one question's cohorts, given by their users.

    `known` is what users cost last time. `seconds` is the time that the question should take.
    """

    def __init__(
        self, users: Sequence[Settings], known: Mapping[Settings, float], *, seconds: float
    ) -> None:
        self._users = users
        self._everyone = set(users)
        self._known = {user: known[user] for user in self._everyone & known.keys()}
        self._least = seconds * _LEAST_SHARE
        self._spent: dict[Settings, float] = {}

    @property
    def is_fair_so_far(self) -> bool:
        """Whether no user has waited for a costly one: all such were known, or there are none."""
        costs = {user: self._cost(user) for user in self._everyone}
        return bool(self._known) or max(costs.values(), default=0.0) <= self._most(costs)

    @property
    def spent(self) -> Mapping[Settings, float]:
        """What each user has taken so far, in seconds."""
        return self._spent

    def charge(self, cohorts: Iterable[int], seconds: Iterable[float]) -> None:
        """Charge cohorts' time to their users."""
        for cohort, cost in zip(cohorts, seconds, strict=False):
            user = self._users[cohort]
            self._spent[user] = self._spent.get(user, 0.0) + cost

    def split(self, pending: Iterable[int]) -> tuple[list[int], list[int]]:
        """Return the cohorts to ask now, in order, and the costly ones, the cheapest first."""
        if not self._spent and not self._known:
            return list(pending), []
        costs = {user: self._cost(user) for user in self._everyone}
        most = self._most(costs)
        cheap = [n for n in pending if costs[self._users[n]] <= most]
        costly = [n for n in pending if costs[self._users[n]] > most]
        return cheap, sorted(costly, key=lambda n: costs[self._users[n]])

    def _most(self, costs: Mapping[Settings, float]) -> float:
        """Return what a user may cost without being costly."""
        return max(self._least, _TIMES_THE_MEDIAN * median_low(costs.values()))

    def _cost(self, user: Settings) -> float:
        return max(self._spent.get(user, 0.0), self._known.get(user, 0.0))


class UserCosts:
    """What users cost in the last question about each table."""

    def __init__(self) -> None:
        self._costs: dict[tuple[int, str], dict[Settings, float]] = {}

    def of(self, table: tuple[int, str]) -> Mapping[Settings, float]:
        """Return the seconds that users cost, by user."""
        return self._costs.get(table, {})

    def keep(self, table: tuple[int, str], spent: Mapping[Settings, float]) -> None:
        """Remember what a question has cost; users who were not asked keep what they had."""
        if not spent:
            return
        costs = self._costs.pop(table, {})
        if len(costs) + len(spent) > _MOST_KEPT:
            costs = {}
        costs.update(spent)
        self._costs[table] = costs
        while sum(map(len, self._costs.values())) > _MOST_KEPT and len(self._costs) > 1:
            del self._costs[next(iter(self._costs))]
