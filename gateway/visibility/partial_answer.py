"""What came out of one portion of a question, before it becomes an answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet


@dataclass(slots=True)
class PartialAnswer:
    """Which cohorts see which images; cohorts and images count from 0.

    `broken` has the SQLSTATE for cohorts on which policies raise, `undecidable` are the images that
    do not fit the table as it is, `superseded` are, by image, the cohorts that see its row, which
    has changed since. `postponed` are cohorts that were left out, `costly` those of them that were
    left out for the sake of the others. `rows` is the number of rows that Postgres answered with.
    """

    seen: list[AbstractSet[int]]
    undecidable: set[int] = field(default_factory=set)
    superseded: dict[int, AbstractSet[int]] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    postponed: set[int] = field(default_factory=set)
    costly: set[int] = field(default_factory=set)
    rows: int = 0

    def extend(self, other: PartialAnswer) -> None:
        """Append an answer about further images, for the same cohorts."""
        self.undecidable.update(len(self.seen) + n for n in other.undecidable)
        self.superseded.update((len(self.seen) + n, who) for n, who in other.superseded.items())
        self.seen.extend(other.seen)
        self.broken.update(other.broken)
        self.postponed |= other.postponed
        self.costly |= other.costly
        self.rows += other.rows

    def add(self, other: PartialAnswer, cohorts: Sequence[int]) -> None:
        """Add an answer about the same images for these cohorts, which this one left out."""
        self.undecidable |= other.undecidable
        self.broken.update((cohorts[n], state) for n, state in other.broken.items())
        self.postponed.update(cohorts[n] for n in other.postponed)
        self.costly.update(cohorts[n] for n in other.costly)
        for image, seen in enumerate(other.seen):
            if seen:
                self.seen[image] |= {cohorts[n] for n in seen}
        for image, who in other.superseded.items():
            before = self.superseded.get(image, frozenset())
            self.superseded[image] = before | {cohorts[n] for n in who}
        self.rows += other.rows

    def among(
        self, images: int, places: Sequence[int], replaced_by: Mapping[int, int]
    ) -> PartialAnswer:
        """Return it as an answer about more images: this one is about those at `places` of them.

        `replaced_by` maps the place of each further image to that of the last image of its row:
        whoever sees the row does not get it, since it has changed.
        """
        seen: list[AbstractSet[int]] = [frozenset()] * images
        for place, who in zip(places, self.seen, strict=True):
            seen[place] = who
        superseded = {places[n]: who for n, who in self.superseded.items()}
        seeing = {by: seen[by] | superseded.get(by, frozenset()) for by in replaced_by.values()}
        superseded |= {place: seeing[by] for place, by in replaced_by.items() if seeing[by]}
        return replace(
            self,
            seen=seen,
            undecidable={places[n] for n in self.undecidable},
            superseded=superseded,
        )
