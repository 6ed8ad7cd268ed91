"""Whether a cohort may see a row image: Postgres decides, once for everybody.

For a table and a role one question is asked about all images and all cohorts. It is asked about the
row as it was in the event. Two forms, see docs/decisions/0005-visibility.md:

* joined: one statement over cohorts and images, for policies that can be rewritten safely;
* looped: the statement once for each cohort, inside one server-side function, for the rest, and
  for cohorts on which the joined form would raise.

The rules that a question was written from are kept, with a fingerprint that the same round trip
compares after the answer: if they changed, the answer is thrown away and asked again. Whatever
cannot be judged is seen by nobody.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from gateway.visibility.answer import EVERYBODY, NOBODY, Answer, Everybody, Image, Visible
from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.answer_rows import excluded_cohorts, read_joined
from gateway.visibility.looped import Looped
from gateway.visibility.observer import Observer, SilentObserver
from gateway.visibility.partial_answer import PartialAnswer
from gateway.visibility.plan import Form, Plan, make_plan
from gateway.visibility.policy_errors import explain_failure
from gateway.visibility.queries import (
    QuestionError,
    RulesChangedError,
    RulesStallError,
    Subject,
    VisibilityQueries,
)
from gateway.visibility.self_check import SelfCheck
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import asyncpg

    from gateway.visibility.cohorts import Audience, Grouping, Settings
    from shared.tasks import Spawn

__all__ = [
    "EVERYBODY",
    "NOBODY",
    "Answer",
    "Everybody",
    "Image",
    "Observer",
    "Visibility",
    "Visible",
]

M = TypeVar("M")
log = structlog.get_logger(__name__)

_TRIES: Final = 4
_STALLS: Final = 3
"""How often rules that cannot be read in time hold up the events of all tables."""
_MOST_IMAGES: Final = 1_000
_MOST_BYTES: Final = 8 * 1024 * 1024
_MOST_PLANS: Final = 5_000


class Visibility:
    """Asks Postgres, through the read pool of the gateway's login.

    `loop_seconds` is the time after which the loop over cohorts goes on in another statement; it
    must lie well below the pool's statement_timeout, which is what ends a policy that never does. A
    cohort that was ended is not asked again for `quarantine_seconds`. `is_joining` false leaves all
    tables to the loop. `verify_rate` is the share of the answers that are compared with a SELECT.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        observer: Observer | None = None,
        loop_seconds: float = 1.0,
        quarantine_seconds: float = 60.0,
        is_joining: bool = True,
        verify_rate: float = 0.0,
        spawn: Spawn | None = None,
    ) -> None:
        self._is_joining = is_joining
        self._queries = VisibilityQueries(pool, spawn=spawn)
        self._observer: Observer = observer or SilentObserver()
        self._looped = Looped(
            self._queries, budget_seconds=loop_seconds, quarantine_seconds=quarantine_seconds
        )
        self._self_check = SelfCheck(self._queries, rate=verify_rate)
        self._plans: dict[tuple[int, str], Plan] = {}
        self._pure: frozenset[str] | None = None
        self._stalls: Counter[tuple[int, str]] = Counter()

    async def readable_columns(self, relid: int, role: str) -> frozenset[str]:
        """Ask which columns a role may read of a table; none means that it may not subscribe.

        Raises `DatabaseUnavailableError`.
        """
        return await self._queries.readable_columns(relid, role)

    def plan_of(self, relid: int, role: str) -> Plan | None:
        """Tell how a table was last asked about for a role, if it was."""
        return self._plans.get((relid, role))

    async def ask(
        self, relid: int, audience: Audience[M], images: Sequence[Image], lsn: int
    ) -> Answer[M]:
        """Ask which cohorts of an audience may see which images, judged at `lsn` or later.

        Raises `DatabaseUnavailableError` where the same is to be asked again later: no connection,
        a replica that lags, a server out of resources or time.
        """
        key = relid, audience.role
        for _ in range(_TRIES):
            try:
                answer = await self._ask_once(relid, audience, images, lsn)
            except RulesChangedError:
                self._plans.pop(key, None)
            except RulesStallError:
                # Not for ever: whoever locks one table would stop all others.
                if self._stalls[key] >= _STALLS:
                    return _gone(audience.grouped(()), images)
                self._stalls[key] += 1
                raise
            else:
                self._stalls.pop(key, None)
                return answer
        raise DatabaseUnavailableError("the rules of the table keep changing")

    async def _ask_once(
        self, relid: int, audience: Audience[M], images: Sequence[Image], lsn: int
    ) -> Answer[M]:
        plan = await self._plan(relid, audience.role, lsn)
        if plan is None:
            return _gone(audience.grouped(()), images)
        subject = Subject(relid, audience.role, lsn, plan.fingerprint)
        answer = await self._ask(plan, subject, audience.grouped(plan.reads), images)
        if images and self._self_check.is_due():
            answer = await self._verified(plan, subject, audience, answer, images)
        return answer

    async def _plan(self, relid: int, role: str, lsn: int) -> Plan | None:
        plan = self._plans.get((relid, role))
        if plan is None:
            known = await self._queries.rules(relid, role)
            if known is None:  # gone, or not there yet on a standby that lags
                await self._queries.catch_up(lsn)
                known = await self._queries.rules(relid, role)
            if known is None:
                return None
            if self._pure is None:
                self._pure = await self._queries.pure_functions()
            plan = make_plan(known.rules, known.fingerprint, self._pure)
            if not self._is_joining:
                plan = plan.as_looped("joining is switched off")
            self._observer.planned(plan.table, role, plan.form, plan.reason)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[relid, role] = plan
        return plan

    async def _ask(
        self, plan: Plan, subject: Subject, grouping: Grouping[M], images: Sequence[Image]
    ) -> Answer[M]:
        columns = plan.rules.readable
        if plan.form in (Form.OPEN, Form.CLOSED) or not images:
            await self._queries.joined(subject, None, ((), (), (), ()), ())
            all_alike: Visible = EVERYBODY if plan.form is Form.OPEN else NOBODY
            return Answer(columns, grouping, [all_alike] * len(images), rules=plan.rules)
        visible: list[Visible] = []
        broken: dict[int, str] = {}
        undecidable: set[int] = set()
        for portion in _portions(images):
            fit = [n for n, image in enumerate(portion) if not plan.rules.is_undecidable(image)]
            undecidable.update(len(visible) + n for n in set(range(len(portion))).difference(fit))
            partial = await self._judged(
                plan, subject, grouping, [portion[n].decode() for n in fit]
            )
            columns &= partial.columns
            undecidable.update(len(visible) + fit[n] for n in partial.undecidable)
            broken.update((n, explain_failure(state)) for n, state in partial.broken.items())
            seen: list[Visible] = [NOBODY] * len(portion)
            for n, cohorts in zip(fit, partial.seen, strict=True):
                seen[n] = EVERYBODY if len(cohorts) == len(grouping) else cohorts
            visible.extend(seen)
        return Answer(columns, grouping, visible, broken, frozenset(undecidable), rules=plan.rules)

    async def _verified(
        self,
        plan: Plan,
        subject: Subject,
        audience: Audience[M],
        answer: Answer[M],
        images: Sequence[Image],
    ) -> Answer[M]:
        """Check an answer; where a SELECT differs, deny, and leave the table to the loop."""
        if len(answer.columns) < len(plan.rules.columns):
            return answer
        suspects = await self._differences(plan, subject, audience, answer, images)
        if not suspects:
            return answer
        again = await self._ask(plan, subject, answer.grouping, images)
        wrong = suspects & await self._differences(plan, subject, audience, again, images)
        if not wrong:
            return again
        log.error(
            "visibility differs from a SELECT",
            table=plan.table, role=subject.role, form=plan.form, pairs=len(wrong),
        )  # fmt: skip
        self._observer.differed(plan.table, len(wrong))
        looped = plan.as_looped("the self-check found a difference")
        self._plans[subject.relid, subject.role] = looped
        strict = await self._ask(looped, subject, answer.grouping, images)
        wrong |= await self._differences(plan, subject, audience, strict, images)
        everybody = frozenset(range(len(answer.grouping)))
        visible: list[Visible] = []
        for image, (one, other) in enumerate(zip(again.visible, strict.visible, strict=True)):
            both = _numbers(one, everybody) & _numbers(other, everybody)
            both -= {cohort for number, cohort in wrong if number == image}
            visible.append(EVERYBODY if both == everybody and everybody else both)
        return replace(strict, visible=visible)

    async def _differences(
        self,
        plan: Plan,
        subject: Subject,
        audience: Audience[M],
        answer: Answer[M],
        images: Sequence[Image],
    ) -> set[tuple[int, int]]:
        """Compare with SELECTs under all settings of one member of each cohort."""
        everybody = frozenset(range(len(answer.grouping)))
        settings: dict[int, Settings] = {}
        for cohort, members in enumerate(answer.grouping.members):
            values = audience.settings_of(members[0])
            if values is not None and cohort not in answer.broken:
                settings[cohort] = values
        judged = [n for n in range(len(images)) if n not in answer.undecidable]
        try:
            return await self._self_check.differences(
                subject,
                settings,
                {n: images[n].json.decode() for n in judged},
                {n: _numbers(answer.visible[n], everybody) for n in judged},
            )
        except DatabaseUnavailableError:
            return set()
        except QuestionError as error:
            self._observer.unchecked(plan.table, error.sqlstate)
            return set()

    async def _judged(
        self, plan: Plan, subject: Subject, grouping: Grouping[M], images: Sequence[str]
    ) -> PartialAnswer:
        if plan.question is None:
            return await self._loop(plan, subject, grouping.settings(), images)
        began = time.monotonic()
        cohorts = len(grouping)
        try:
            rows = await self._queries.joined(subject, plan.question, _columns_of(grouping), images)
        except QuestionError as error:
            self._observer.failed(plan.table, Form.JOINED, error.sqlstate, cohorts)
            log.info("joined question failed", table=plan.table, sqlstate=error.sqlstate)
            return await self._loop(plan, subject, grouping.settings(), images)
        self._observer.asked(
            plan.table, Form.JOINED, cohorts=cohorts, events=len(images),
            seconds=time.monotonic() - began, rows=len(rows),
        )  # fmt: skip
        partial = PartialAnswer(plan.rules.readable, read_joined(rows, cohorts, len(images)))
        excluded = excluded_cohorts(rows)
        if excluded:
            settings = grouping.settings()
            alone = await self._loop(plan, subject, [settings[n] for n in excluded], images)
            partial.add(alone, excluded)
        return partial

    async def _loop(
        self, plan: Plan, subject: Subject, cohorts: Sequence[Settings], images: Sequence[str]
    ) -> PartialAnswer:
        began = time.monotonic()
        partial = await self._looped.ask(subject, cohorts, images)
        self._observer.asked(
            plan.table, Form.LOOPED, cohorts=len(cohorts), events=len(images),
            seconds=time.monotonic() - began, rows=partial.rows,
        )  # fmt: skip
        for state, count in Counter(partial.broken.values()).items():
            self._observer.failed(plan.table, Form.LOOPED, state, count)
        return partial


def _numbers(visible: Visible, everybody: frozenset[int]) -> frozenset[int]:
    return everybody if visible is EVERYBODY else visible


def _columns_of(grouping: Grouping[M]) -> list[list[str]]:
    """Turn the cohorts' values into one array for each known setting, empty if it is not read."""
    columns: list[list[str]] = [[], [], [], []]
    for place, name in enumerate(grouping.reads):
        columns[KNOWN_SETTINGS.index(name)] = [values[place] for values in grouping.values]
    return columns


def _portions(images: Sequence[Image]) -> Iterator[list[bytes]]:
    """Cut a question to a bounded number of images and bytes."""
    portion: list[bytes] = []
    size = 0
    for image in images:
        if portion and (len(portion) >= _MOST_IMAGES or size + len(image.json) > _MOST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(image.json)
        size += len(image.json)
    if portion:
        yield portion


def _gone(grouping: Grouping[M], images: Sequence[Image]) -> Answer[M]:
    everything = frozenset(range(len(images)))
    return Answer(
        frozenset(), grouping, [NOBODY] * len(images), undecidable=everything, is_gone=True
    )
