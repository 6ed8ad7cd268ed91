"""The looped form: every cohort by itself, and none at the cost of another.

A cohort whose policies raise, or take too long, is denied and told. The statement's own timeout is
all that ends a policy that never comes back, so each such cohort costs everybody that time once;
then it is not asked for a while. Errors that are the server's by their class are asked again, but
not for ever: a policy could raise them itself, and would stop its table for everybody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gateway.visibility.partial_answer import PartialAnswer
from gateway.visibility.queries import (
    QUERY_CANCELED,
    LoopedAnswer,
    PolicyStallsError,
    QuestionError,
)
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.visibility.cohorts import Settings
    from gateway.visibility.queries import Subject, VisibilityQueries

_STRIKES: Final = 3
_MOST_KEPT: Final = 10_000
_MOST_PAIRS: Final = 1_000_000
"""Of cohorts and images asked about in one go: what their answer may take in memory."""


class Looped:
    """Asks the looped form, and remembers who was too slow."""

    def __init__(
        self, queries: VisibilityQueries, *, budget_seconds: float, quarantine_seconds: float
    ) -> None:
        self._queries = queries
        self._budget_seconds = budget_seconds
        self._quarantine_seconds = quarantine_seconds
        self._slow: dict[tuple[int, str, Settings], float] = {}
        self._strikes: dict[tuple[int, str], int] = {}

    async def ask(
        self, subject: Subject, cohorts: Sequence[Settings], images: Sequence[str]
    ) -> PartialAnswer:
        """Ask about cohorts by their settings.

        The more cohorts, the fewer images are asked about at a time. Raises
        `DatabaseUnavailableError`, `RulesChangedError`.
        """
        most = max(1, _MOST_PAIRS // max(1, len(cohorts)))
        partial = await self._ask(subject, cohorts, images[:most])
        for start in range(most, len(images), most):
            partial.extend(await self._ask(subject, cohorts, images[start : start + most]))
        return partial

    async def _ask(
        self, subject: Subject, cohorts: Sequence[Settings], images: Sequence[str]
    ) -> PartialAnswer:
        now = time.monotonic()
        table = (subject.relid, subject.role)
        slow = {n for n, c in enumerate(cohorts) if self._slow.get((*table, c), now) > now}
        pending = [n for n in range(len(cohorts)) if n not in slow]
        partial = PartialAnswer(frozenset(), [frozenset()] * len(images))
        seen: list[set[int]] = [set() for _ in images]
        partial.broken.update(dict.fromkeys(slow, QUERY_CANCELED))
        is_first = True
        while is_first or pending:
            answer = await self._ask_once(subject, [cohorts[n] for n in pending], images)
            partial.columns = answer.columns if is_first else partial.columns & answer.columns
            is_first = False
            partial.undecidable.update(answer.undecidable)
            partial.rows += len(answer.seen) + len(answer.broken)
            for cohort, numbers in answer.seen.items():
                for image in numbers:
                    seen[image].add(pending[cohort])
            for cohort, state in answer.broken.items():
                partial.broken[pending[cohort]] = state
                if state == QUERY_CANCELED:
                    self._set_aside((*table, cohorts[pending[cohort]]))
            if answer.failure is not None:
                partial.broken.update(dict.fromkeys(pending, answer.failure))
            pending = [] if answer.go_on is None else pending[answer.go_on :]
        everybody = frozenset(range(len(cohorts)))
        partial.seen = [everybody if len(who) == len(everybody) else frozenset(who) for who in seen]
        return partial

    async def _ask_once(
        self, subject: Subject, cohorts: Sequence[Settings], images: Sequence[str]
    ) -> LoopedAnswer:
        table = (subject.relid, subject.role)
        strikes = self._strikes.get(table, 0)
        try:
            answer = await self._queries.each(
                subject,
                cohorts,
                images,
                budget_seconds=self._budget_seconds,
                is_lenient=strikes >= _STRIKES,
            )
        except PolicyStallsError:
            self._strikes[table] = strikes + 1
            raise
        except QuestionError as error:
            if error.sqlstate == QUERY_CANCELED and strikes < _STRIKES:
                self._strikes[table] = strikes + 1
                raise DatabaseUnavailableError("database unavailable: out of time") from None
            # Not one cohort's: the role cannot be taken, or making rows of the images never ends.
            return LoopedAnswer(frozenset(), list(range(len(images))), error.sqlstate, None)
        self._strikes.pop(table, None)
        return answer

    def _set_aside(self, cohort: tuple[int, str, Settings]) -> None:
        now = time.monotonic()
        if len(self._slow) >= _MOST_KEPT:
            self._slow = {key: until for key, until in self._slow.items() if until > now}
        if len(self._slow) < _MOST_KEPT:
            self._slow[cohort] = now + self._quarantine_seconds
