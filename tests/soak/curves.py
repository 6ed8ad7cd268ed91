"""What was measured over time: as CSV, as a small SVG, and what did not come back."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT, LEFT = 640, 56, 200


@dataclass(frozen=True)
class Limit:
    """How far a measure may be from its beginning in the end: as a factor, and in its unit."""

    factor: float
    more: float


@dataclass
class Curves:
    """Samples of named measures, each with the second it was taken at."""

    samples: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def add(self, second: float, values: dict[str, float]) -> None:
        """Keep a sample."""
        self.samples.append((second, values))

    @property
    def names(self) -> list[str]:
        """The measures, in the order in which they first came."""
        return list(dict.fromkeys(name for _, values in self.samples for name in values))

    def points(self, name: str) -> list[tuple[float, float]]:
        """Return one measure's seconds and values."""
        return [(second, values[name]) for second, values in self.samples if name in values]

    def csv(self) -> str:
        """Return a table with a line for each sample."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["second", *self.names])
        for second, values in self.samples:
            row = [f"{values[name]:g}" if name in values else "" for name in self.names]
            writer.writerow([f"{second:.1f}", *row])
        return text.getvalue()

    def svg(self) -> str:
        """Return a drawing with a line for each measure, below each other, each from 0."""
        names = self.names
        last = max((second for second, _ in self.samples), default=0.0) or 1.0
        parts = []
        for number, name in enumerate(names):
            top = number * HEIGHT
            points = self.points(name)
            most = max((value for _, value in points), default=0.0) or 1.0
            line = " ".join(
                f"{LEFT + second / last * WIDTH:.1f},"
                f"{top + HEIGHT - 8 - max(0.0, value) / most * (HEIGHT - 16):.1f}"
                for second, value in points
            )
            parts.append(
                f'<text x="8" y="{top + 24}">{escape(name)}</text>'
                f'<text x="8" y="{top + 42}" fill="#777">at most {most:g}</text>'
                f'<polyline points="{line}" fill="none" stroke="#06c"/>'
            )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 8}" '
            f'height="{len(names) * HEIGHT + 8}" font-family="sans-serif" font-size="12">'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
        )

    def write(self, folder: Path) -> None:
        """Write `soak.csv` and `soak.svg`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "soak.csv").write_text(self.csv(), encoding="utf-8")
        (folder / "soak.svg").write_text(self.svg(), encoding="utf-8")


def not_back(begin: dict[str, float], end: dict[str, float], limits: dict[str, Limit]) -> list[str]:
    """Return a line for each measure that is further from its beginning than its limit."""
    found = []
    for name, limit in limits.items():
        allowed = begin[name] * limit.factor + limit.more
        if end[name] > allowed:
            found.append(
                f"{name}: {begin[name]:g} at the beginning, {end[name]:g} at the end, "
                f"at most {allowed:g} expected"
            )
    return found
