"""The looped form: every cohort by itself, and none at the cost of another.

A cohort whose policies raise, or take too long, is denied and told. The statement's own timeout is
all that ends a policy that never comes back, so each such cohort costs everybody that time once;
then it is not asked for a while. Errors that are the server's by their class are asked again, but
not for ever: a policy could raise them itself, and would stop its table for everybody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gateway.visibility.partial_answer import Verdict
from gateway.visibility.queries import QUERY_CANCELED, Heard, PolicyStallsError, QuestionError
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.visibility.cohorts import Settings
    from gateway.visibility.queries import Judge, Subject

_STRIKES: Final = 3
_MOST_KEPT: Final = 10_000
_MOST_PAIRS: Final = 1_000_000
"""Of cohorts and images asked about in one go: what their answer may take in memory."""


class Looped:
    """Asks the looped form, and remembers who was too slow."""

    def __init__(self, judge: Judge, *, budget_seconds: float, quarantine_seconds: float) -> None:
        self._judge = judge
        self._budget_seconds = budget_seconds
        self._quarantine_seconds = quarantine_seconds
        self._slow: dict[tuple[int, str, Settings], float] = {}
        self._strikes: dict[tuple[int, str], int] = {}

    async def ask(
        self, subject: Subject, cohorts: Sequence[Settings], images: Sequence[str]
    ) -> Verdict:
        """Ask about cohorts by their settings.

        The more cohorts, the fewer images are asked about at a time. Raises
        `DatabaseUnavailableError`, `RulesChangedError`.
        """
        most = max(1, _MOST_PAIRS // max(1, len(cohorts)))
        verdict = await self._ask(subject, cohorts, images[:most])
        for start in range(most, len(images), most):
            verdict.extend(await self._ask(subject, cohorts, images[start : start + most]))
        return verdict

    async def _ask(
        self, subject: Subject, cohorts: Sequence[Settings], images: Sequence[str]
    ) -> Verdict:
        now = time.monotonic()
        table = (subject.relid, subject.role)
        slow = {n for n, c in enumerate(cohorts) if self._slow.get((*table, c), now) > now}
        pending = [n for n in range(len(cohorts)) if n not in slow]
        verdict = Verdict(frozenset(), [frozenset()] * len(images))
        seen: list[set[int]] = [set() for _ in images]
        verdict.broken.update(dict.fromkeys(slow, QUERY_CANCELED))
        is_first = True
        while is_first or pending:
            heard = await self._hear(subject, [cohorts[n] for n in pending], images)
            verdict.columns = heard.columns if is_first else verdict.columns & heard.columns
            is_first = False
            verdict.unfit.update(heard.unfit)
            verdict.rows += len(heard.seen) + len(heard.broken)
            for cohort, numbers in heard.seen.items():
                for image in numbers:
                    seen[image].add(pending[cohort])
            for cohort, state in heard.broken.items():
                verdict.broken[pending[cohort]] = state
                if state == QUERY_CANCELED:
                    self._set_aside((*table, cohorts[pending[cohort]]))
            if heard.failure is not None:
                verdict.broken.update(dict.fromkeys(pending, heard.failure))
            pending = [] if heard.go_on is None else pending[heard.go_on :]
        everybody = frozenset(range(len(cohorts)))
        verdict.seen = [everybody if len(who) == len(everybody) else frozenset(who) for who in seen]
        return verdict

    async def _hear(
        self, subject: Subject, cohorts: Sequence[Settings], images: Sequence[str]
    ) -> Heard:
        table = (subject.relid, subject.role)
        strikes = self._strikes.get(table, 0)
        try:
            heard = await self._judge.each(
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
            return Heard(frozenset(), list(range(len(images))), error.sqlstate, None)
        self._strikes.pop(table, None)
        return heard

    def _set_aside(self, cohort: tuple[int, str, Settings]) -> None:
        now = time.monotonic()
        if len(self._slow) >= _MOST_KEPT:
            self._slow = {key: until for key, until in self._slow.items() if until > now}
        if len(self._slow) < _MOST_KEPT:
            self._slow[cohort] = now + self._quarantine_seconds
