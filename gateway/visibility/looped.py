"""Asking each cohort separately, with none affecting another: the looped and the opaque form.

A cohort whose policies raise, or take too long, is denied and notified. Only the statement's own
timeout ends a policy that never returns, so such a policy delays every cohort of the table by that
time once. After that, its user is not asked about for this table for a while, whichever of the
user's tokens is used. Within a question, users who take more than a fair share of its time come
last (`gateway.visibility.fair_shares`), and may be postponed for the sake of the others. Questions
that fail with an error whose class belongs to the server are asked again, but not indefinitely: a
policy could raise such an error itself and would then block its table for everyone.

In the looped form the policies' text is evaluated on images. It is parsed and planned with only
pg_catalog in the search path, as it was when Postgres wrote it: every name in it means what it
meant when the policy was created, and no object created later can capture one. Functions that
policies call rely on the session's own search path, time zone and so on: the statement itself sets
these, once it has read all images and before the first is judged.
"""

# ruff: noqa: S608 (a statement is what is made here, of text that comes from Postgres' own catalogs)

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from gateway.visibility.cohort_set import cohorts_from
from gateway.visibility.fair_shares import FairShares, UserCosts
from gateway.visibility.partial_answer import PartialAnswer
from gateway.visibility.queries import LoopedAnswer
from gateway.visibility.question_errors import (
    QUERY_CANCELED,
    PolicyStallsError,
    QuestionError,
)
from gateway.visibility.quoting import quote_name
from gateway.visibility.strikes import Strikes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from gateway.visibility.answer import Image
    from gateway.visibility.cohorts import AskedCohorts, Settings
    from gateway.visibility.queries import CohortQuestion, Subject, VisibilityQueries
    from gateway.visibility.rules import Rules

_STRIKES: Final = 3
_MOST_KEPT: Final = 10_000
_FEWEST_SIDE_BY_SIDE: Final = 50
"""With fewer cohorts, a second session would save little."""
_MOST_PAIRS: Final = 1_000_000
"""Pairs of a cohort and an image asked about at a time; limits the memory of the answer."""


def row_type(rules: Rules) -> str:
    """Return the name of a table's row type, as SQL."""
    return f"{quote_name(rules.schema)}.{quote_name(rules.table)}"


def looped_statement(rules: Rules) -> str:
    """Return the statement on images: see `ayb_realtime.ask_cohort`.

    The policies' names are resolved in a query level of their own, where only the row is in scope.
    Their result is used in FILTER and not in WHERE: there the planner would evaluate casts of
    settings for its estimates, and raise for rows that another arm of an OR decides.
    """
    policies = rules.policies or ()
    restrictive = "".join(f"({p.expression}) AND " for p in policies if not p.permissive)
    permissive = " OR ".join(f"({p.expression})" for p in reversed(policies) if p.permissive)
    return f"""WITH ayb_rows AS MATERIALIZED (
SELECT ($2[ayb_u.ayb_image])::{row_type(rules)} AS ayb_row, ayb_u.ayb_image
FROM pg_catalog.unnest($1) AS ayb_u (ayb_image)), ayb_own AS MATERIALIZED (
SELECT pg_catalog.count(pg_catalog.set_config($4[ayb_s.ayb_n], $4[ayb_s.ayb_n + 1], true))
FROM (SELECT pg_catalog.count(*) FROM ayb_rows) AS ayb_all
CROSS JOIN pg_catalog.generate_series(1, pg_catalog.cardinality($4), 2) AS ayb_s (ayb_n))
SELECT pg_catalog.array_agg(ayb_asked.ayb_image) FILTER (WHERE ayb_judged.ayb_seen)
FROM ayb_own CROSS JOIN ayb_rows AS ayb_asked
CROSS JOIN LATERAL (SELECT ({restrictive}({permissive or "false"})) AS ayb_seen
FROM pg_catalog.unnest(ARRAY[ayb_asked.ayb_row]) AS {quote_name(rules.table)}) AS ayb_judged"""


class Looped:
    """Asks cohorts separately, and remembers which users were too slow.

    With `spare_sessions`, so many questions at a time may be asked in two sessions side by side,
    half of the cohorts in each. The snapshots of the two differ, as do those of the statements that
    a long question is asked in.
    """

    def __init__(
        self,
        queries: VisibilityQueries,
        *,
        budget_seconds: float,
        quarantine_seconds: float,
        spare_sessions: int = 0,
    ) -> None:
        self._queries = queries
        self._spare_sessions = asyncio.Semaphore(spare_sessions)
        self._budget_seconds = budget_seconds
        self._quarantine_seconds = quarantine_seconds
        self._slow: dict[tuple[int, str, Settings], float] = {}
        self._costs = UserCosts()
        self._strikes = Strikes(_STRIKES)

    async def ask(
        self,
        subject: Subject,
        question: CohortQuestion,
        asked: AskedCohorts,
        postponed: AbstractSet[int] = frozenset(),
    ) -> PartialAnswer:
        """Ask about cohorts by their settings, except for those that are `postponed` already.

        The more cohorts there are, the fewer images are asked about at a time. Raises
        `DatabaseUnavailableError`, `RulesChangedError`.
        """
        most = max(1, _MOST_PAIRS // max(1, len(asked)))
        partial = await self._ask(subject, question.part(0, most), asked, postponed)
        for start in range(most, len(question), most):
            part = question.part(start, start + most)
            partial.extend(await self._ask(subject, part, asked, partial.postponed))
        return partial

    async def _ask(
        self,
        subject: Subject,
        question: CohortQuestion,
        asked: AskedCohorts,
        postponed: AbstractSet[int],
    ) -> PartialAnswer:
        partial = PartialAnswer([frozenset()] * len(question))
        seen: list[set[int]] = [set() for _ in range(len(question))]
        superseded: dict[int, set[int]] = {}
        table = subject.relid, subject.role
        shares = FairShares(asked.users, self._costs.of(table), seconds=self._budget_seconds)
        partial.postponed.update(postponed)
        pending = [n for n in range(len(asked)) if n not in postponed]
        wanted = len(pending)
        is_first = True
        while True:
            now, later = shares.split(self._without_slow(subject, asked, pending, partial))
            if not now:
                # All but the costly ones have been answered.
                if asked.may_postpone:
                    partial.postponed.update(later)
                    partial.costly.update(later)
                    later = []
                now, later = later, []
            if not now and not is_first:
                break
            # The first second is over. If the rest takes no longer than that, it is not worth
            # another question.
            is_half_done = 2 * len(now) <= wanted - len(later)
            is_over = not is_first and not is_half_done
            if is_over and asked.may_postpone and shares.is_fair_so_far:
                partial.postponed.update(now, later)
                break
            is_first = False
            pending = []
            for portion, answer in await self._ask_side_by_side(subject, question, asked, now):
                shares.charge(portion, answer.costs)
                for cohort, numbers in answer.seen.items():
                    for image in numbers:
                        seen[image].add(portion[cohort])
                for cohort, numbers in answer.superseded.items():
                    for image in numbers:
                        superseded.setdefault(image, set()).add(portion[cohort])
                self._note_failures(subject, asked, portion, answer, partial)
                pending += [] if answer.go_on is None else portion[answer.go_on :]
            pending += later
        partial.superseded.update(superseded)
        self._costs.keep(table, shares.spent)
        everybody = frozenset(range(len(asked)))
        partial.seen = [
            everybody if len(who) == len(asked) else cohorts_from(who, len(who), len(asked))
            for who in seen
        ]
        return partial

    def _note_failures(
        self,
        subject: Subject,
        asked: AskedCohorts,
        portion: Sequence[int],
        answer: LoopedAnswer,
        partial: PartialAnswer,
    ) -> None:
        partial.undecidable.update(answer.undecidable)
        partial.rows += len(answer.seen) + len(answer.superseded) + len(answer.broken)
        for cohort, state in answer.broken.items():
            partial.broken[portion[cohort]] = state
            if state == QUERY_CANCELED:
                self._set_aside(subject, asked.users[portion[cohort]])

    async def _ask_side_by_side(
        self,
        subject: Subject,
        question: CohortQuestion,
        asked: AskedCohorts,
        cohorts: Sequence[int],
    ) -> list[tuple[Sequence[int], LoopedAnswer]]:
        """Ask cohorts in one session, or two if one is to spare; each answer with its cohorts."""
        if len(cohorts) < _FEWEST_SIDE_BY_SIDE or self._spare_sessions.locked():
            settings = [asked.settings[n] for n in cohorts]
            return [(cohorts, await self._ask_once(subject, question, settings))]
        portions = [cohorts[::2], cohorts[1::2]]
        async with self._spare_sessions:
            answers = await asyncio.gather(
                *(
                    self._ask_once(subject, question, [asked.settings[n] for n in portion])
                    for portion in portions
                ),
                return_exceptions=True,
            )
        found = []
        for portion, answer in zip(portions, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            found.append((portion, answer))
        return found

    async def _ask_once(
        self, subject: Subject, question: CohortQuestion, cohorts: Sequence[Settings]
    ) -> LoopedAnswer:
        is_lenient = self.is_lenient(subject)
        try:
            return await self._queries.each(
                subject,
                question,
                cohorts,
                budget_seconds=self._budget_seconds,
                is_lenient=is_lenient,
            )
        except QuestionError as error:
            if error.sqlstate == QUERY_CANCELED and not is_lenient:
                raise PolicyStallsError("database unavailable: out of time") from None
            # Not caused by a single cohort or image: converting the images to rows never ends, for
            # example.
            return LoopedAnswer(list(range(len(question))))

    def set_aside(self, subject: Subject, asked: AskedCohorts) -> frozenset[int]:
        """Return the cohorts, numbered from 0, whose users are set aside."""
        if not self._slow:
            return frozenset()
        now = time.monotonic()
        return frozenset(
            n
            for n, user in enumerate(asked.users)
            if self._slow.get((subject.relid, subject.role, user), now) > now
        )

    def is_lenient(self, subject: Subject) -> bool:
        """Whether errors of the server's classes count against the cohort raising them."""
        return self._strikes.is_out((subject.relid, subject.role), time.monotonic())

    def strike(self, subject: Subject, began: float, images: Sequence[Image]) -> None:
        """Count an error of the server's classes that was raised while policies ran.

        The question about the images began at `began`, in seconds of the monotonic clock.
        """
        self._strikes.count(
            (subject.relid, subject.role),
            began=began,
            now=time.monotonic(),
            about=images[0].seq,
        )

    def forgive(self, subject: Subject, images: Sequence[Image]) -> None:
        """Forget such errors of a question about any of the images: they have been answered."""
        self._strikes.forgive((subject.relid, subject.role), (image.seq for image in images))

    def _without_slow(
        self,
        subject: Subject,
        asked: AskedCohorts,
        pending: Sequence[int],
        partial: PartialAnswer,
    ) -> list[int]:
        """Leave out cohorts whose users are set aside; they count as too slow."""
        now = time.monotonic()
        rest = []
        for n in pending:
            if self._slow.get((subject.relid, subject.role, asked.users[n]), now) > now:
                partial.broken[n] = QUERY_CANCELED
            else:
                rest.append(n)
        return rest

    def _set_aside(self, subject: Subject, user: Settings) -> None:
        now = time.monotonic()
        if len(self._slow) >= _MOST_KEPT:
            self._slow = {key: until for key, until in self._slow.items() if until > now}
        if len(self._slow) < _MOST_KEPT:
            self._slow[subject.relid, subject.role, user] = now + self._quarantine_seconds
