"""The self-check: whether a real SELECT under RLS shows what the engine says.

A sample of cohorts and images is asked in the opaque form, which is a SELECT by each cohort: each
in a subtransaction of its own, with nothing left of the one before. It can be said only of rows
that are now as they were in the event. A row is taken to be unchanged if some cohort's SELECT
shows it so, or if the last of the recent changes in the outbox left it so. What has changed
between answer and check (the row, a membership, a policy) looks like a difference, so a difference
counts only if a second answer and a second check show it again.

Tables without a primary key, or of which the role may not read every column, are not checked.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Final

from gateway.visibility.opaque import OpaqueRow, comparing_statement, opaque_row, opaque_statement
from gateway.visibility.queries import CohortQuestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.visibility.cohorts import Settings
    from gateway.visibility.queries import Subject, VisibilityQueries
    from gateway.visibility.rules import Rules

_MOST_COHORTS: Final = 50
_MOST_IMAGES: Final = 200
_MOST_CHARACTERS: Final = 1_000_000
"""Of all images of a check: each is compared for each cohort."""

Pair = tuple[int, int]
"""An image and a cohort."""


class SelfCheck:
    """Checks a share of the answers; `rate` is that share, from 0 to 1.

    Cohorts that could not be asked within `budget_seconds` are not checked.
    """

    def __init__(self, queries: VisibilityQueries, *, rate: float, budget_seconds: float) -> None:
        self._queries = queries
        self._rate = rate
        self._budget_seconds = budget_seconds

    def is_due(self, rules: Rules) -> bool:
        """Whether an answer is to be checked, and can be."""
        return (
            bool(rules.key)
            and len(rules.readable) == len(rules.columns)
            and self._rate > 0
            and random.random() < self._rate  # noqa: S311 (a sample)
        )

    async def differences(
        self,
        subject: Subject,
        rules: Rules,
        settings: Mapping[int, Settings],
        images: Mapping[int, bytes],
        seen: Mapping[int, frozenset[int]],
    ) -> set[Pair]:
        """Find where a SELECT shows something else than the answer.

        Settings of cohorts, images and who sees them are given by number. Of many cohorts or images
        a sample is taken.
        Raises `DatabaseUnavailableError`, `QuestionError`, `RulesChangedError`.
        """
        cohorts = list(settings)
        if len(cohorts) > _MOST_COHORTS:
            cohorts = random.sample(cohorts, _MOST_COHORTS)
        found = {n: opaque_row(rules, image) for n, image in images.items()}
        rows = {n: row for n, row in found.items() if row is not None}
        numbers = sample({n: row.row for n, row in rows.items()})
        question = CohortQuestion(
            opaque_statement(rules),
            [rows[n].row for n in numbers],
            compared=comparing_statement(rules),
            keys=[rows[n].key for n in numbers],
        )
        answer = await self._queries.each(
            subject,
            question,
            [settings[n] for n in cohorts],
            budget_seconds=self._budget_seconds,
            is_lenient=False,
        )
        shown: dict[int | None, set[int]] = {
            cohort: {numbers[n] for n in answer.seen.get(place, ())}
            for place, cohort in enumerate(cohorts[: answer.go_on])
            if place not in answer.broken
        }
        shown[None] = await self._unchanged(subject, rules, {n: rows[n] for n in numbers})
        # The outbox does not tell of a row that a change of its table or types has rewritten.
        shown[None].difference_update(numbers[n] for who in answer.superseded.values() for n in who)
        return compare(shown, seen)

    async def _unchanged(
        self, subject: Subject, rules: Rules, rows: Mapping[int, OpaqueRow]
    ) -> set[int]:
        """Find the images that are what the outbox says of their rows now."""
        latest = await self._queries.latest_images(
            subject.relid,
            [column.name for column in rules.key or ()],
            [json.dumps(row.key) for row in rows.values()],
        )
        return {
            n
            for (n, row), image in zip(rows.items(), latest, strict=True)
            if image is not None and opaque_row(rules, image.encode()) == row
        }


def sample(images: Mapping[int, str]) -> list[int]:
    """Choose the images to be checked; one at least, if there are any."""
    numbers: list[int] = []
    characters = 0
    for number in random.sample(list(images), min(len(images), _MOST_IMAGES)):
        characters += len(images[number])
        if numbers and characters > _MOST_CHARACTERS:
            break
        numbers.append(number)
    return numbers


def compare(shown: Mapping[int | None, set[int]], seen: Mapping[int, frozenset[int]]) -> set[Pair]:
    """Compare what SELECTs show with what the answer says.

    `shown` has the images of unchanged rows that each cohort's SELECT shows; under None, those that
    are unchanged according to the outbox. A missing cohort could not be asked.
    """
    unchanged = set[int]().union(*shown.values())
    return {
        (image, cohort)
        for cohort, images in shown.items()
        if cohort is not None
        for image in unchanged
        if (image in images) != (cohort in seen[image])
    }
