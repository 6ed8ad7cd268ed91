"""Whether a cohort may see a row image: Postgres decides, once for all clients.

For each table and role one question is asked about all images and all cohorts, about the row as it
was in the event. The forms are described in the package's docstring. The rules that a question was
written from are kept, with a fingerprint that the same round trip compares after the answer: if
they changed, the answer is discarded and the question asked again. What cannot be judged is visible
to no one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from gateway.visibility.answer import EVERYBODY, NOBODY, Answer, Everybody, Image, Visible
from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.joined_form import JoinedForm
from gateway.visibility.looped import Looped
from gateway.visibility.observer import Observer, SilentObserver
from gateway.visibility.plan import Form, Plan, make_plan
from gateway.visibility.queries import Subject, VisibilityQueries
from gateway.visibility.question_errors import (
    JoinedFailsError,
    PolicyStallsError,
    QuestionError,
    RulesChangedError,
    RulesStallError,
    TableReadError,
)
from gateway.visibility.questions import NamesNotFoundError, Questions
from gateway.visibility.self_check import SelfCheck
from gateway.visibility.strikes import Strikes
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from gateway.visibility.cohorts import Audience, Settings
    from gateway.visibility.joined.setting_expressions import Builtins
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
"""How often rules that cannot be read in time may delay the events of all tables."""
_MOST_PLANS: Final = 5_000
_MOST_CHECKS: Final = 100
"""Self-checks that may wait beside delivery; further answers are not checked."""


class Visibility:
    """Asks Postgres, through the read pool of the gateway's login.

    `loop_seconds` is the time after which the loop over cohorts continues in another statement, and
    a self-check leaves out the remaining cohorts. It must be well below the pool's
    statement_timeout, which ends a policy that never would. A user
    whose question was ended is not asked about the table for `quarantine_seconds`. `is_joining`
    false leaves all tables to the other forms. `trusted_functions` (each `schema.name`) are those
    that an operator declared to depend on nothing but their arguments and settings.
    `setting_names` are the settings that members of an audience have, in the order of their values.
    `spare_sessions` of the pool may be used to ask half of the cohorts of a question one by one.

    `verify_rate` is the share of the answers that are compared with a SELECT. With `spawn` that is
    done beside delivery, one at a time; without, an answer is given only after its check, and
    corrected by it.
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
        trusted_functions: frozenset[str] = frozenset(),
        setting_names: tuple[str, ...] = KNOWN_SETTINGS,
        spare_sessions: int = 0,
        spawn: Spawn | None = None,
    ) -> None:
        self._is_joining = is_joining
        self._trusted = trusted_functions
        self._spawn = spawn
        self._names = setting_names
        self._queries = VisibilityQueries(pool, names=setting_names, spawn=spawn)
        self._observer: Observer = observer or SilentObserver()
        looped = Looped(
            self._queries,
            budget_seconds=loop_seconds,
            quarantine_seconds=quarantine_seconds,
            spare_sessions=spare_sessions,
        )
        self._joined = JoinedForm(self._queries)
        self._questions = Questions(self._queries, self._joined, looped, self._observer)
        self._self_check = SelfCheck(self._queries, rate=verify_rate, budget_seconds=loop_seconds)
        self._checking = asyncio.Lock()
        self._checks_waiting = 0
        self._plans: dict[tuple[int, str], Plan] = {}
        self._builtins: Builtins | None = None
        self._stalls = Strikes(_STALLS)

    async def readable_columns(self, relid: int, role: str) -> frozenset[str]:
        """Ask which columns a role may read of a table; none means that it may not subscribe.

        Raises `DatabaseUnavailableError`.
        """
        return await self._queries.readable_columns(relid, role)

    def plan_of(self, relid: int, role: str) -> Plan | None:
        """Return how a table was last asked about for a role, if it was."""
        return self._plans.get((relid, role))

    async def ask(
        self,
        relid: int,
        audience: Audience[M],
        images: Sequence[Image],
        lsn: int,
        *,
        may_postpone: bool = False,
    ) -> Answer[M]:
        """Ask which cohorts of an audience may see which images, judged at `lsn` or later.

        With `may_postpone` some cohorts may be left out: those of users who take the time of the
        others, and those for which the time does not suffice.

        Raises `DatabaseUnavailableError` where the same is to be asked again later: no connection,
        a replica that lags, a server out of resources or time.
        """
        key = relid, audience.role
        began = time.monotonic()
        for _ in range(_TRIES):
            try:
                answer = await self._ask_once(
                    relid, audience, images, lsn, may_postpone=may_postpone
                )
            except RulesChangedError:
                self._plans.pop(key, None)
            except JoinedFailsError as error:
                if (plan := self._plans.get(key)) is not None:
                    self._keep(*key, plan.without_join(str(error), self._trusted))
            except TableReadError:
                reason = "a function that its policies call reads the table itself"
                if (plan := self._plans.get(key)) is not None:
                    self._keep(*key, plan.as_opaque(reason))
            except NamesNotFoundError as error:
                reason = f"its functions' names are not found outside of a SELECT ({error})"
                if (plan := self._plans.get(key)) is not None:
                    self._keep(*key, plan.as_opaque(reason))
            except RulesStallError as stall:
                return self._stalled(key, stall, began, audience, images)
            else:
                self._stalls.forgive(key)
                return answer
        changing = RulesStallError("the rules of the table keep changing")
        return self._stalled(key, changing, began, audience, images)

    def _stalled(
        self,
        key: tuple[int, str],
        error: RulesStallError,
        began: float,
        audience: Audience[M],
        images: Sequence[Image],
    ) -> Answer[M]:
        """Raise the error a few times only: a table whose rules cannot be read stops its clients.

        After that the table counts as gone, so that they get `resync`.
        """
        if not self._stalls.is_out(key, time.monotonic()):
            self._stalls.count(key, began=began, now=time.monotonic())
            raise error
        return _gone(audience, images, self._names)

    async def _ask_once(
        self,
        relid: int,
        audience: Audience[M],
        images: Sequence[Image],
        lsn: int,
        *,
        may_postpone: bool,
    ) -> Answer[M]:
        plan = await self._plan(relid, audience.role, lsn)
        if plan is None:
            return _gone(audience, images, self._names)
        subject = Subject(relid, audience.role, lsn, plan.fingerprint)
        grouping = audience.grouped(plan.reads, self._names)
        try:
            answer = await self._questions.ask(
                plan, subject, grouping, images, may_postpone=may_postpone
            )
        except PolicyStallsError:
            # Such errors come from a table being dropped or altered, too: only its own question
            # is to be asked again then.
            known = await self._queries.rules(relid, audience.role)
            if known is None or known.fingerprint != plan.fingerprint:
                raise RulesChangedError from None
            raise
        if images and self._self_check.is_due(plan.rules):
            if self._spawn is None:
                answer = await self._checked(plan, subject, audience, answer, images)
            elif self._checks_waiting < _MOST_CHECKS:
                self._checks_waiting += 1
                self._spawn(
                    self._check_beside(plan, subject, audience, answer, images), "self-check"
                )
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
            if self._builtins is None:
                self._builtins = await self._queries.builtins()
            plan = make_plan(
                known.rules, known.fingerprint, self._builtins, self._trusted, self._names
            )
            if not self._is_joining:
                plan = plan.without_join("joining is switched off", self._trusted)
            try:
                subject = Subject(relid, role, lsn, plan.fingerprint)
                plan = await self._joined.complete(plan, subject)
            except JoinedFailsError as error:
                plan = plan.without_join(str(error), self._trusted)
            self._keep(relid, role, plan)
        return plan

    def _keep(self, relid: int, role: str, plan: Plan) -> None:
        self._observer.planned(plan.table, role, plan.form, plan.reason)
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[relid, role] = plan

    async def _check_beside(
        self,
        plan: Plan,
        subject: Subject,
        audience: Audience[M],
        answer: Answer[M],
        images: Sequence[Image],
    ) -> None:
        try:
            async with self._checking:
                await self._checked(plan, subject, audience, answer, images)
        except (
            RulesChangedError, TableReadError, JoinedFailsError, NamesNotFoundError,
            DatabaseUnavailableError,
        ):  # fmt: skip
            pass  # nothing can be compared any more
        finally:
            self._checks_waiting -= 1

    async def _checked(
        self,
        plan: Plan,
        subject: Subject,
        audience: Audience[M],
        answer: Answer[M],
        images: Sequence[Image],
    ) -> Answer[M]:
        """Check an answer; where a SELECT differs, deny, and use a stricter form from now on."""
        suspects = await self._differences(plan, subject, audience, answer, images)
        if not suspects:
            return answer
        again = await self._questions.ask(plan, subject, answer.grouping, images)
        # For the same images, though perhaps for other cohorts: what one leaves behind reaches the
        # next, and they are not always asked in the same order.
        doubted = {image for image, _ in suspects}
        wrong = {
            (image, cohort)
            for image, cohort in await self._differences(plan, subject, audience, again, images)
            if image in doubted
        }
        if not wrong:
            return again
        log.error(
            "visibility differs from a SELECT",
            table=plan.table, role=subject.role, form=plan.form, pairs=len(wrong),
        )  # fmt: skip
        self._observer.differed(plan.table, len(wrong))
        reason = "the self-check found a difference"
        if plan.form is Form.JOINED:
            stricter = plan.without_join(reason, self._trusted)
        else:
            stricter = plan.as_opaque(reason)
        self._keep(subject.relid, subject.role, stricter)
        strict = await self._questions.ask(stricter, subject, answer.grouping, images)
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
            is_answered = cohort not in answer.broken and cohort not in answer.postponed
            if values is not None and is_answered:
                settings[cohort] = values
        judged = [n for n in range(len(images)) if n not in answer.undecidable]
        try:
            return await self._self_check.differences(
                subject,
                plan.rules,
                settings,
                {n: images[n].json for n in judged},
                {n: _numbers(answer.visible[n], everybody) for n in judged},
            )
        except DatabaseUnavailableError:
            self._observer.unchecked(plan.table, "unavailable")
        except QuestionError as error:
            self._observer.unchecked(plan.table, error.sqlstate)
        return set()


def _numbers(visible: Visible, everybody: frozenset[int]) -> frozenset[int]:
    return everybody if visible is EVERYBODY else frozenset(visible)


def _gone(audience: Audience[M], images: Sequence[Image], names: tuple[str, ...]) -> Answer[M]:
    everything = frozenset(range(len(images)))
    return Answer(
        frozenset(), audience.grouped((), names), [NOBODY] * len(images), undecidable=everything,
        is_gone=True,
    )  # fmt: skip
