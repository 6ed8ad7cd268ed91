"""Asking the joined form: first the values of the cohorts, then one statement for all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from gateway.visibility.joined.answer_rows import excluded_cohorts, groups_of, read_joined
from gateway.visibility.joined.candidates import FEWEST_GROUPS, candidates, columns_of
from gateway.visibility.joined.kept_values import KeptValues
from gateway.visibility.joined.packed_texts import pack
from gateway.visibility.joined.statement import given_expression, key_expression
from gateway.visibility.question_errors import (
    JoinedFailsError,
    QuestionError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from gateway.visibility.cohorts import Grouping
    from gateway.visibility.plan import Plan
    from gateway.visibility.queries import Subject, VisibilityQueries

_MOST_PAIRS: Final = 2_500_000
"""Pairs of a cohort and an image in one statement; limits the memory that its answer takes."""
_MOST_KEPT_AT_ONCE: Final = 5_000
"""The most cohorts whose kept values are computed by one statement."""
_MOST_TABLES: Final = 5_000
_FEWEST_COMPUTED: Final = 200
_FEWEST_CALLS: Final = 20_000
"""Pairs of a cohort and an image for which functions may be called by one statement at least."""
_MOST_COMPUTED: Final = 20_000
_SECONDS: Final = 0.5
"""How long a statement that computes values for cohorts should take."""


class JoinedForm:
    """Asks the joined form, and keeps the values that do not need to be computed again."""

    def __init__(self, queries: VisibilityQueries) -> None:
        self._queries = queries
        self._kept: dict[tuple[int, str], tuple[Plan, KeptValues]] = {}
        self._at_once: dict[tuple[int, str], int] = {}

    async def complete(self, plan: Plan, subject: Subject) -> Plan:
        """Write the statement of a plan that has only a draft.

        Raises `JoinedFailsError`, `RulesChangedError`, `DatabaseUnavailableError`.
        """
        draft = plan.draft
        if draft is None:
            return plan
        expressions = draft.expressions
        names = sorted({name for expression in expressions for name in expression.others})
        compared = columns_of(draft.demands)
        columns = [*draft.keys, *compared]
        try:
            types, values = await self._queries.expression_types(
                subject,
                [given_expression(plan.rules, e) if e.columns else e.sql for e in expressions]
                + [key_expression(plan.rules, c) for c in (*draft.given, *columns)],
                [e.is_array for e in expressions]
                + [False] * len(draft.given)
                + [True] * len(columns),
                names,
            )
        except QuestionError as error:
            raise JoinedFailsError(f"SQLSTATE {error.sqlstate}, for its expressions") from None
        last = len(types) - len(columns)
        array_types = dict(zip(columns, types[last:], strict=True))
        types = types[: last + len(draft.keys)]
        known = [type_ for type_ in types if type_ is not None]
        if len(known) < len(types):
            texts = [*(e.text for e in expressions), *draft.given, *draft.keys]
            raise JoinedFailsError(f"no text keeps the value of {texts[types.index(None)]}")
        others = [text for pair in zip(names, values, strict=True) for text in pair]
        return plan.completed(known, others, array_types)

    async def ask(
        self,
        plan: Plan,
        subject: Subject,
        grouping: Grouping[Any],
        images: Sequence[str],
        *,
        without: frozenset[int] = frozenset(),
    ) -> tuple[list[AbstractSet[int]], list[int], int]:
        """Ask which cohorts see which images, both numbered from 0.

        Returns the cohorts that see each image, the cohorts that were left out (those in `without`
        and those for which an expression raises), and the number of rows returned.

        Raises `QuestionError`, `RulesChangedError`, `TableReadError`, `DatabaseUnavailableError`.
        """
        values = await self._values(plan, subject, grouping)
        if plan.computed is not None:
            return await self._ask_computed(
                plan, subject, grouping, values, images=images, without=without
            )
        groups = values.grouped(grouping)
        everybody = None
        some = candidates(plan.demands, groups, images)
        if some is not None:
            everybody = groups.everybody
            groups = groups.some(some)
        is_of_few = some is not None or len(groups) < FEWEST_GROUPS
        question = plan.question_of_few if is_of_few else plan.question
        most = max(1, _MOST_PAIRS // max(1, len(groups)))
        seen: list[AbstractSet[int]] = []
        size = 0
        for start in range(0, len(images), most):
            portion = images[start : start + most]
            rows = await self._queries.joined(
                subject, question, images=portion, kept=groups.packed, others=plan.others,
                is_own=plan.asks_only_builtins,
            )  # fmt: skip
            seen += read_joined(rows, groups.groups, len(portion), everybody)
            size += len(rows)
        return seen, list(groups.excluded), size

    async def _values(self, plan: Plan, subject: Subject, grouping: Grouping[Any]) -> KeptValues:
        key = subject.relid, subject.role
        known = self._kept.get(key)
        if known is None or known[0] is not plan:
            values = KeptValues(plan.kept_values, is_grouping=plan.computed is None)
            if len(self._kept) >= _MOST_TABLES:
                self._kept.clear()
                self._at_once.clear()
            self._kept[key] = plan, values
        else:
            values = known[1]
        # Other tasks learn and forget values in the meantime, so the last step is a check that none
        # is missing, with no await after it.
        while missing := values.missing(grouping):
            if plan.kept is None:
                values.learn(grouping, missing, [()] * len(missing))
                continue
            settings = grouping.settings()
            cohorts = missing[:_MOST_KEPT_AT_ONCE]
            found = await self._queries.cohort_values(
                subject,
                plan.kept,
                [settings[n] for n in cohorts],
                plan.others,
                is_own=plan.keeps_only_builtins,
            )
            values.learn(grouping, cohorts, found)
        return values

    async def _ask_computed(
        self,
        plan: Plan,
        subject: Subject,
        grouping: Grouping[Any],
        values: KeptValues,
        *,
        images: Sequence[str],
        without: frozenset[int],
    ) -> tuple[list[AbstractSet[int]], list[int], int]:
        groups = values.grouped(grouping)
        settings = grouping.settings()
        without_values = frozenset(groups.excluded)
        rows_of_kept = {
            n: row
            for row, n in enumerate(n for n in range(len(grouping)) if n not in without_values)
        }
        each = len(rows_of_kept)
        excluded = set(without_values | without)
        pending = [n for n in range(len(grouping)) if n not in excluded]
        seen: list[AbstractSet[int]] = [frozenset()] * len(images)
        size = 0
        key = subject.relid, subject.role
        # All images at a time, so that each cohort's values are computed once.
        most = max(1, _MOST_PAIRS // max(1, len(images)))
        fewest = _FEWEST_COMPUTED
        if plan.is_given:
            # Functions may be called for each pair.
            fewest = max(1, min(fewest, _FEWEST_CALLS // max(1, len(images))))
        at = 0
        while at < len(pending):
            cohorts = pending[at : at + min(most, self._at_once.get(key, fewest * 5))]
            kept = pack(
                [
                    groups.flat[n * each + rows_of_kept[cohort]]
                    for n in range(plan.kept_values)
                    for cohort in cohorts
                ]
            )
            is_of_few = len(cohorts) < FEWEST_GROUPS
            question = plan.question_of_few if is_of_few else plan.question
            began = time.monotonic()
            rows = await self._queries.joined(
                subject, question, images=images, kept=kept, others=plan.others,
                computed=plan.computed, keys=plan.keys, settings=[settings[n] for n in cohorts],
            )  # fmt: skip
            seconds = max(time.monotonic() - began, 0.001)
            size += len(rows)
            excluded.update(cohorts[n] for n in excluded_cohorts(rows))
            members = {
                group: [cohorts[n] for n in numbers] for group, numbers in groups_of(rows).items()
            }
            for image, found in enumerate(read_joined(rows, members, len(images))):
                seen[image] = seen[image] | found if seen[image] else found
            fitting = int(len(cohorts) * _SECONDS / seconds)
            self._at_once[key] = min(max(fitting, fewest), _MOST_COMPUTED)
            at += len(cohorts)
        return seen, sorted(excluded), size
