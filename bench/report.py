"""The report of a benchmark: figures, and the expectations that they met or missed."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case: our figures, those of peers in the same run, and the ratio of the two."""

    case: str
    ours: dict[str, float]
    peers: dict[str, dict[str, float]] = field(default_factory=dict)
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """An expectation and whether the measurement met it; printed, never asserted."""

    what: str
    want: str
    got: str
    holds: bool


@dataclass(slots=True)
class Report:
    """All rows of one benchmark."""

    name: str
    rows: list[Row] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row and print it."""
        self.rows.append(row)
        print(f"  {row.case:<44} {_figures(row.ours)}", flush=True)
        for name, figures in row.peers.items():
            print(f"    beside it: {name:<31} {_figures(figures)}", flush=True)
        if row.ratio is not None:
            print(f"    ratio {row.ratio:.3g}", flush=True)

    def expect(self, what: str, *, want: str, got: str, holds: bool) -> None:
        """Add an expectation and print whether it was met."""
        self.expected.append(Expected(what, want, got, holds))
        print(f"  {'holds' if holds else 'MISSED'}: {what}: want {want}, got {got}", flush=True)

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        document = {
            "name": self.name,
            "machine": machine(),
            "rows": [asdict(row) for row in self.rows],
            "expected": [asdict(expected) for expected in self.expected],
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def machine() -> str:
    """Describe this machine in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )


def percentile(values: list[float], share: float) -> float:
    """Return the value that a share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _figures(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:,.4g}" for name, value in figures.items())
