"""A figure of a benchmark: what was measured, in which unit, in which cases, beside which peers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from bench.reports.measured import Measured  # noqa: TC001 (read when a document is decoded)

OURS: Final = "ours"
"""The contender that is the product; all others are peers."""


@dataclass(frozen=True, slots=True)
class Case:
    """One measured case: a value for each contender."""

    label: str
    values: dict[str, Measured]
    x: float | None = None
    """Where the case stands on the axis of a line plot."""
    note: str = ""


@dataclass(slots=True)
class Figure:
    """Cases that belong together: one table, one plot."""

    name: str
    """Unique among all benchmarks; the name of the plot's file."""
    title: str
    unit: str
    peer: str | None = None
    """The contender that ours is divided by."""
    better: Literal["less", "more"] = "less"
    axis: str = ""
    """What the `x` of the cases means; a plot of lines is drawn if this is set."""
    cases: list[Case] = field(default_factory=list)
    is_detail: bool = False
    """Whether the JSON has it, and neither the summary nor docs/benchmarks.md."""

    @property
    def contenders(self) -> list[str]:
        """All contenders in any case: ours first, then peers as they were added."""
        found = dict.fromkeys(name for case in self.cases for name in case.values)
        return sorted(found, key=lambda name: name != OURS)

    def ratio(self, case: Case) -> float | None:
        """Return ours divided by the peer; None if there is nothing to divide by.

        That is if one was not measured, or the peer's time is none: a NOTIFY may arrive before the
        writer knows that it has committed.
        """
        ours, peer = case.values.get(OURS), case.values.get(self.peer or "")
        if ours is None or peer is None or peer.median <= 0:
            return None
        return ours.median / peer.median
