"""What came out of one portion of a question, before it becomes an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class PartialAnswer:
    """Which cohorts see which images; cohorts and images count from 0.

    `broken` has the SQLSTATE for cohorts on which policies raise, `undecidable` are the images that
    do not fit the table as it is, `rows` is the number of rows that Postgres answered with.
    """

    columns: frozenset[str]
    seen: list[frozenset[int]]
    undecidable: set[int] = field(default_factory=set)
    broken: dict[int, str] = field(default_factory=dict)
    rows: int = 0

    def extend(self, other: PartialAnswer) -> None:
        """Append a partial on further images about the same cohorts."""
        self.columns &= other.columns
        self.undecidable.update(len(self.seen) + n for n in other.undecidable)
        self.seen.extend(other.seen)
        self.broken.update(other.broken)
        self.rows += other.rows

    def add(self, other: PartialAnswer, cohorts: Sequence[int]) -> None:
        """Add a partial on the same images about these cohorts, which this one left out."""
        self.columns &= other.columns
        self.undecidable |= other.undecidable
        self.broken.update((cohorts[n], state) for n, state in other.broken.items())
        for image, seen in enumerate(other.seen):
            if seen:
                self.seen[image] |= {cohorts[n] for n in seen}
        self.rows += other.rows
