"""The self-check: whether a real SELECT under RLS shows what the engine says.

It can be said only of rows that are now as they were in the event. A row is taken to be unchanged
if some cohort's SELECT shows it so, or if the last of the recent changes in the outbox left it so.
What has changed between answer and check (the row, a membership, a policy) looks like a difference,
so a difference counts only if a second answer and a second check show it again.

Tables without a primary key, or of which the role may not read every column, are not checked.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.visibility.cohorts import Settings
    from gateway.visibility.queries import Subject, VisibilityQueries

_MOST_COHORTS: Final = 50
_MOST_IMAGES: Final = 200
_MOST_CHARACTERS: Final = 1_000_000
"""Of all images of a check: each is parsed for each cohort."""

Pair = tuple[int, int]
"""An image and a cohort."""


class SelfCheck:
    """Checks a share of the answers; `rate` is that share, from 0 to 1."""

    def __init__(self, queries: VisibilityQueries, *, rate: float) -> None:
        self._queries = queries
        self._rate = rate

    def is_due(self) -> bool:
        """Draw whether an answer is to be checked."""
        return self._rate > 0 and random.random() < self._rate  # noqa: S311 (a sample)

    async def differences(
        self,
        subject: Subject,
        settings: Mapping[int, Settings],
        images: Mapping[int, str],
        seen: Mapping[int, frozenset[int]],
    ) -> set[Pair]:
        """Find where a SELECT shows something else than the answer.

        Settings of cohorts, images and who sees them are given by number. Of many cohorts or images
        a sample is taken.
        Raises `DatabaseUnavailableError`, `QuestionError`.
        """
        cohorts = list(settings)
        if len(cohorts) > _MOST_COHORTS:
            cohorts = random.sample(cohorts, _MOST_COHORTS)
        numbers = sample(images)
        shown = await self._queries.verify(
            subject, [settings[n] for n in cohorts], [images[n] for n in numbers]
        )
        return compare(
            {None if place is None else cohorts[place]: {numbers[n] for n in places}
             for place, places in shown.items()},
            seen,
        )  # fmt: skip


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
    """Compare what SELECTs show with who sees what.

    `shown` has the unchanged rows' images that each cohort's SELECT shows; under None those that
    are unchanged by the outbox. A cohort that is missing could not be asked.
    """
    unchanged = set[int]().union(*shown.values())
    return {
        (image, cohort)
        for cohort, images in shown.items()
        if cohort is not None
        for image in unchanged
        if (image in images) != (cohort in seen[image])
    }
