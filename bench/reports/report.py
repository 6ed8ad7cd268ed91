"""The report of one benchmark: its figures, expectations, and what was left out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bench.reports.figure import Case, Figure
from bench.reports.measured import Measured
from bench.reports.tables import case_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Expected:
    """An expectation and whether the measurement met it; printed, never asserted."""

    what: str
    want: str
    got: str
    holds: bool


class NotPossibleError(Exception):
    """A benchmark as a whole cannot be run here; its message says what is missing."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A peer or case that could not be measured here, and why."""

    what: str
    reason: str


@dataclass(slots=True)
class Report:
    """All figures of one benchmark."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    checked: str = ""
    """What was found right about everything that arrived, in one sentence."""
    seconds: float = 0.0
    load_before: float = 0.0
    """The load average of the last minute when the benchmark began."""
    load_after: float = 0.0
    error: str = ""
    """Why the benchmark failed; empty if it did not."""

    def figure(
        self,
        name: str,
        title: str,
        unit: str,
        *,
        peer: str | None = None,
        better: Literal["less", "more"] = "less",
        axis: str = "",
    ) -> Figure:
        """Begin a figure; see `Figure`."""
        figure = Figure(name, title, unit, peer, better, axis)
        self.figures.append(figure)
        return figure

    def add(
        self,
        figure: Figure,
        label: str,
        values: Mapping[str, Measured | Sequence[float] | float],
        *,
        x: float | None = None,
        note: str = "",
    ) -> Case:
        """Add a case to one of the figures, with all repetitions of each contender; print it."""
        case = Case(label, {name: _measured(value) for name, value in values.items()}, x, note)
        figure.cases.append(case)
        print(case_line(figure, case), flush=True)
        return case

    def expect(self, what: str, *, want: str, got: str, holds: bool) -> None:
        """Add an expectation and print whether it was met."""
        self.expected.append(Expected(what, want, got, holds))
        print(f"  {'met' if holds else 'MISSED'}: {what}: wanted {want}, got {got}", flush=True)

    def leave_out(self, what: str, reason: str) -> None:
        """Note a peer or a case that cannot be measured here, once, and print it."""
        left = LeftOut(what, reason)
        if left not in self.left_out:
            self.left_out.append(left)
            print(f"  left out: {what}: {reason}", flush=True)

    def say(self, what: str) -> None:
        """Print a line of progress."""
        print(f"  {time.strftime('%H:%M:%S')} {what}", flush=True)


def _measured(value: Measured | Sequence[float] | float) -> Measured:
    if isinstance(value, Measured):
        return value
    return Measured.of([value] if isinstance(value, (int, float)) else value)
