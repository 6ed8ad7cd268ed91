"""The looped form: every cohort by itself, and none at the cost of another.

A cohort whose policies raise, or take too long, is denied and told. The statement's own timeout is
all that ends a policy that never comes back, so each such cohort costs everybody that time once;
then it is not asked for a while. Errors that are the server's by their class are asked again, but
not for ever: a policy could raise them itself, and would stop its table for everybody.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.judge import QUERY_CANCELED, Heard, Judge, PolicyStallsError, QuestionError
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.audience import Settings

_STRIKES: Final = 3
_MOST_KEPT: Final = 10_000


@dataclass(slots=True)
class Verdict:
    """Which of the cohorts asked about see which images; all numbers count from 0."""

    columns: frozenset[str]
    seen: list[set[int]]
    unfit: set[int] = field(default_factory=set)
    broken: dict[int, str] = field(default_factory=dict)
    rows: int = 0


class Looped:
    """Asks the looped form, and remembers who was too slow."""

    def __init__(self, judge: Judge, *, budget_seconds: float, quarantine_seconds: float) -> None:
        self._judge = judge
        self._budget_seconds = budget_seconds
        self._quarantine_seconds = quarantine_seconds
        self._slow: dict[tuple[int, str, Settings], float] = {}
        self._strikes: dict[tuple[int, str], int] = {}

    async def ask(
        self,
        relid: int,
        role: str,
        *,
        fingerprint: str | None,
        cohorts: Sequence[Settings],
        images: Sequence[str],
        lsn: int,
    ) -> Verdict:
        """Ask about cohorts by their settings.

        Raises `DatabaseUnavailableError`, `RulesChangedError`.
        """
        now = time.monotonic()
        slow = {n for n, c in enumerate(cohorts) if self._slow.get((relid, role, c), now) > now}
        pending = [n for n in range(len(cohorts)) if n not in slow]
        verdict = Verdict(frozenset(), [set() for _ in images])
        verdict.broken.update(dict.fromkeys(slow, QUERY_CANCELED))
        is_first = True
        while is_first or pending:
            heard = await self._hear(
                relid, role, fingerprint, [cohorts[n] for n in pending], images, lsn
            )
            verdict.columns = heard.columns if is_first else verdict.columns & heard.columns
            is_first = False
            verdict.unfit.update(heard.unfit)
            verdict.rows += len(heard.seen) + len(heard.broken)
            for cohort, seen in heard.seen.items():
                for image in seen:
                    verdict.seen[image].add(pending[cohort])
            for cohort, state in heard.broken.items():
                verdict.broken[pending[cohort]] = state
                if state == QUERY_CANCELED:
                    self._set_aside((relid, role, cohorts[pending[cohort]]))
            if heard.failure is not None:
                verdict.broken.update(dict.fromkeys(pending, heard.failure))
            pending = [] if heard.go_on is None else pending[heard.go_on :]
        return verdict

    async def _hear(
        self,
        relid: int,
        role: str,
        fingerprint: str | None,
        cohorts: Sequence[Settings],
        images: Sequence[str],
        lsn: int,
    ) -> Heard:
        strikes = self._strikes.get((relid, role), 0)
        try:
            heard = await self._judge.each(
                relid,
                role,
                fingerprint=fingerprint,
                cohorts=cohorts,
                images=images,
                lsn=lsn,
                budget_seconds=self._budget_seconds,
                is_lenient=strikes >= _STRIKES,
            )
        except PolicyStallsError:
            self._strikes[relid, role] = strikes + 1
            raise
        except QuestionError as error:
            if error.sqlstate == QUERY_CANCELED and strikes < _STRIKES:
                self._strikes[relid, role] = strikes + 1
                raise DatabaseUnavailableError("database unavailable: out of time") from None
            # Not one cohort's: the role cannot be taken, or making rows of the images never ends.
            return Heard(frozenset(), list(range(len(images))), error.sqlstate, None)
        self._strikes.pop((relid, role), None)
        return heard

    def _set_aside(self, cohort: tuple[int, str, Settings]) -> None:
        now = time.monotonic()
        if len(self._slow) >= _MOST_KEPT:
            self._slow = {key: until for key, until in self._slow.items() if until > now}
        if len(self._slow) < _MOST_KEPT:
            self._slow[cohort] = now + self._quarantine_seconds
