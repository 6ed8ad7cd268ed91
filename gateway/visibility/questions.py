"""Putting a table's question to Postgres in the form of its plan, in bounded portions."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from gateway.visibility.answer import EVERYBODY, NOBODY, Answer, Image, Visible
from gateway.visibility.cohort_set import cohorts_from
from gateway.visibility.looped import looped_statement, row_type
from gateway.visibility.opaque import comparing_statement, opaque_row, opaque_statement
from gateway.visibility.partial_answer import PartialAnswer
from gateway.visibility.plan import Form, Plan
from gateway.visibility.policy_errors import NO_KEY, explain_failure
from gateway.visibility.queries import CohortQuestion
from gateway.visibility.question_errors import (
    SETTINGS_DIFFER,
    UNDEFINED,
    JoinedFailsError,
    PolicyStallsError,
    QuestionError,
    RulesChangedError,
    is_of_the_server,
)
from shared.errors import AybError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from gateway.visibility.cohorts import AskedCohorts, Grouping
    from gateway.visibility.joined.joined_form import JoinedForm
    from gateway.visibility.looped import Looped
    from gateway.visibility.observer import Observer
    from gateway.visibility.queries import Subject, VisibilityQueries
    from gateway.visibility.rules import Rules

M = TypeVar("M")
log = structlog.get_logger(__name__)

_MOST_IMAGES: Final = 1_000
_MOST_BYTES: Final = 8 * 1024 * 1024
_UNBOUND: Final = "42883"
"""What cohorts are marked with that are left to a SELECT: see `Questions._ask_lost`."""
_OF_THE_STATEMENT: Final = ("0A", "42", "54")
"""Classes of SQLSTATE that say something of the statement, whatever the images and cohorts."""


class NamesNotFoundError(AybError):
    """Functions that policies call find their tables only by the search path of a real client."""


class Questions:
    """Asks about images by a plan."""

    def __init__(
        self,
        queries: VisibilityQueries,
        joined: JoinedForm,
        looped: Looped,
        observer: Observer,
    ) -> None:
        self._queries = queries
        self._joined = joined
        self._looped = looped
        self._observer = observer

    async def ask(
        self,
        plan: Plan,
        subject: Subject,
        grouping: Grouping[M],
        images: Sequence[Image],
        *,
        may_postpone: bool = False,
    ) -> Answer[M]:
        """Ask which cohorts see which images; some of the cohorts may be postponed.

        Raises `RulesChangedError`, `JoinedFailsError`, `TableReadError`, `NamesNotFoundError`,
        `DatabaseUnavailableError`.
        """
        rules = plan.rules
        if plan.form in (Form.OPEN, Form.CLOSED) or not images:
            began = time.monotonic()
            await self._queries.joined(subject, None)
            if images:
                self._observer.asked(
                    plan.table, plan.form, cohorts=len(grouping), events=len(images),
                    seconds=time.monotonic() - began, rows=0,
                )  # fmt: skip
            all_alike: Visible = EVERYBODY if plan.form is Form.OPEN else NOBODY
            return Answer(rules.readable, grouping, [all_alike] * len(images), rules=rules)
        asked = grouping.asked(may_postpone=may_postpone)
        postponed: set[int] = set()
        costly: set[int] = set()
        visible: list[Visible] = []
        broken: dict[int, str] = {}
        undecidable: set[int] = set()
        superseded: dict[int, AbstractSet[int]] = {}
        unanswered: set[int] = set()
        for portion in _portions(images):
            start = len(visible)
            began = time.monotonic()
            try:
                if plan.form is Form.OPAQUE:
                    fit, partial = await self._ask_opaque(plan, subject, asked, portion, postponed)
                else:
                    fit, partial = await self._ask_about_images(
                        plan, subject, grouping, asked, portion
                    )
                    await self._ask_lost(plan, subject, asked, portion, (fit, partial))
            except PolicyStallsError:
                self._looped.strike(subject, began, portion)
                raise
            self._looped.forgive(subject, portion)
            if not fit:
                # Perhaps only by rules that are no longer in force.
                await self._queries.joined(subject, None)
            undecidable.update(start + n for n in set(range(len(portion))).difference(fit))
            undecidable.update(start + fit[n] for n in partial.undecidable)
            superseded.update(
                (start + fit[n], cohorts_from(who, len(who), len(asked)))
                for n, who in partial.superseded.items()
            )
            broken.update((n, explain_failure(state)) for n, state in partial.broken.items())
            postponed |= partial.postponed
            costly |= partial.costly
            unanswered.update(n for n, s in partial.broken.items() if is_of_the_server(s))
            seen: list[Visible] = [NOBODY] * len(portion)
            for n, cohorts in zip(fit, partial.seen, strict=True):
                seen[n] = EVERYBODY if len(cohorts) == len(grouping) else cohorts
            visible.extend(seen)
        return Answer(
            rules.readable, grouping, visible, broken, frozenset(undecidable), superseded,
            frozenset(unanswered), postponed=frozenset(postponed), costly=frozenset(costly),
            rules=rules,
        )  # fmt: skip

    async def _ask_opaque(
        self,
        plan: Plan,
        subject: Subject,
        asked: AskedCohorts,
        images: Sequence[Image],
        postponed: AbstractSet[int] = frozenset(),
    ) -> tuple[list[int], PartialAnswer]:
        if not plan.rules.key:
            nobody = PartialAnswer([NOBODY] * len(images))
            nobody.broken.update(dict.fromkeys(range(len(asked)), NO_KEY))
            return list(range(len(images))), nobody
        rules = plan.rules
        rows = [
            (n, opaque_row(rules, image.json))
            for n, image in enumerate(images)
            if not _is_doubtful(rules, image, rules.key_names)
        ]
        fit = [(n, row) for n, row in rows if row is not None]
        # Of several images of a row that changes left, the row is certainly not the earlier ones
        # any more, unless it has changed back; so the further behind a table is, the more of its
        # images need not be asked about. A later change must be looked for only for the last one.
        newest = {row.key: at for at, (n, row) in enumerate(fit) if not images[n].is_past}
        replaced_by = {
            at: newest[row.key]
            for at, (n, row) in enumerate(fit)
            if not images[n].is_past and newest[row.key] != at
        }
        places = [at for at in range(len(fit)) if at not in replaced_by]
        rows_asked = [fit[at] for at in places]
        question = CohortQuestion(
            opaque_statement(rules),
            [row.row for _, row in rows_asked],
            compared=comparing_statement(rules),
            key=[column.name for column in rules.key or ()],
            keys=[row.key for _, row in rows_asked],
            seqs=[None if images[n].is_past else images[n].seq for n, _ in rows_asked],
        )
        partial = await self._loop(plan, subject, question, asked, postponed)
        return [n for n, _ in fit], partial.among(len(fit), places, replaced_by)

    async def _ask_about_images(
        self,
        plan: Plan,
        subject: Subject,
        grouping: Grouping[M],
        asked: AskedCohorts,
        images: Sequence[Image],
    ) -> tuple[list[int], PartialAnswer]:
        judged = [
            (n, plan.rules.judged_image(image.json))
            for n, image in enumerate(images)
            if not _is_doubtful(plan.rules, image, plan.rules.needed)
        ]
        fit = [(n, text) for n, text in judged if text is not None]
        texts = [text for _, text in fit]
        if plan.question is None:
            partial = await self._loop(plan, subject, _looped(plan, texts), asked)
            if partial.broken and len(partial.broken) == len(grouping) and plan.rules.key:
                states = set(partial.broken.values())
                if states <= UNDEFINED:
                    raise NamesNotFoundError(f"SQLSTATE {', '.join(sorted(states))}")
        else:
            partial = await self._ask_joined(plan, subject, grouping, asked, texts)
        return [n for n, _ in fit], partial

    async def _ask_lost(
        self,
        plan: Plan,
        subject: Subject,
        asked: AskedCohorts,
        images: Sequence[Image],
        judged: tuple[list[int], PartialAnswer],
    ) -> None:
        """Ask by SELECT for the cohorts whose policies call functions that find no names.

        Outside of a SELECT the search path is Postgres' own, so a function that reads `members`
        without a schema raises. A cohort may be the only one that is asked that way.
        """
        fit, partial = judged
        lost = [n for n, state in partial.broken.items() if state in UNDEFINED]
        if not lost or not plan.rules.key:
            return
        selected, answer = await self._ask_opaque(plan, subject, asked.some(lost), images)
        for n in lost:
            del partial.broken[n]
        place = {image: n for n, image in enumerate(fit)}
        seen: list[AbstractSet[int]] = [NOBODY] * len(fit)
        superseded = {}
        for n, image in enumerate(selected):
            if image in place:
                seen[place[image]] = answer.seen[n]
                if n in answer.superseded:
                    superseded[place[image]] = answer.superseded[n]
        unread = {place[image] for image in set(fit).difference(selected)}
        unread |= {place[selected[n]] for n in answer.undecidable if selected[n] in place}
        partial.add(replace(answer, seen=seen, undecidable=unread, superseded=superseded), lost)

    async def _ask_joined(
        self,
        plan: Plan,
        subject: Subject,
        grouping: Grouping[M],
        asked: AskedCohorts,
        images: Sequence[str],
    ) -> PartialAnswer:
        began = time.monotonic()
        cohorts = len(grouping)
        without = self._looped.set_aside(subject, asked) if plan.computed else frozenset()
        try:
            seen, excluded, size = await self._joined.ask(
                plan, subject, grouping, images, without=without
            )
        except PolicyStallsError:
            # A policy's function may raise it, and would stop its table for everybody.
            if not self._looped.is_lenient(subject):
                raise
            return await self._ask_rest(plan, subject, images, asked)
        except QuestionError as error:
            self._observer.failed(plan.table, Form.JOINED, error.sqlstate, cohorts)
            log.info("joined question failed", table=plan.table, sqlstate=error.sqlstate)
            if error.sqlstate == SETTINGS_DIFFER:
                raise RulesChangedError from None
            if error.sqlstate.startswith(_OF_THE_STATEMENT):
                raise JoinedFailsError(f"SQLSTATE {error.sqlstate}") from None
            return await self._ask_rest(plan, subject, images, asked)
        self._observer.asked(
            plan.table, Form.JOINED, cohorts=cohorts, events=len(images),
            seconds=time.monotonic() - began, rows=size,
        )  # fmt: skip
        partial = PartialAnswer(seen)
        if excluded:
            alone = await self._ask_rest(plan, subject, images, asked.some(excluded))
            partial.add(alone, excluded)
        return partial

    async def _ask_rest(
        self, plan: Plan, subject: Subject, images: Sequence[str], asked: AskedCohorts
    ) -> PartialAnswer:
        """Ask for cohorts that a joined question does not answer, in a loop if that is right."""
        if not plan.selects_rest:
            return await self._loop(plan, subject, _looped(plan, images), asked)
        rest = PartialAnswer([NOBODY] * len(images))
        rest.broken.update(dict.fromkeys(range(len(asked)), _UNBOUND if plan.rules.key else NO_KEY))
        return rest

    async def _loop(
        self,
        plan: Plan,
        subject: Subject,
        question: CohortQuestion,
        asked: AskedCohorts,
        postponed: AbstractSet[int] = frozenset(),
    ) -> PartialAnswer:
        form = Form.OPAQUE if question.row_type is None else Form.LOOPED
        began = time.monotonic()
        partial = await self._looped.ask(subject, question, asked, postponed)
        self._observer.asked(
            plan.table, form, cohorts=len(asked) - len(partial.postponed), events=len(question),
            seconds=time.monotonic() - began, rows=partial.rows,
        )  # fmt: skip
        for state, count in Counter(partial.broken.values()).items():
            self._observer.failed(plan.table, form, state, count)
        return partial


def _is_doubtful(rules: Rules, image: Image, columns: frozenset[str]) -> bool:
    """Whether the values that decide about an image may have meant others when it was captured."""
    return image.seq is not None and rules.means_other_values(image.json, image.seq, columns)


def _looped(plan: Plan, images: Sequence[str]) -> CohortQuestion:
    return CohortQuestion(looped_statement(plan.rules), images, row_type=row_type(plan.rules))


def _portions(images: Sequence[Image]) -> Iterator[list[Image]]:
    """Cut a question to a bounded number of images and bytes."""
    portion: list[Image] = []
    size = 0
    for image in images:
        if portion and (len(portion) >= _MOST_IMAGES or size + len(image.json) > _MOST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(image)
        size += len(image.json)
    if portion:
        yield portion
