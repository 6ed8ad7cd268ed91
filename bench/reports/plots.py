"""Plots of figures as SVG: bars for cases with names, lines for cases along an axis.

Each is a text of its own without scripts, fonts or assets. It is readable on light and dark pages
(the colours follow `prefers-color-scheme`), carries a title and a description for screen readers,
and writes the values next to the bars, so that colour is never the only way to read it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from bench.reports.tables import number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.reports.document import Document
    from bench.reports.figure import Figure

WIDTH: Final = 720
_LEFT: Final = 190
_RIGHT: Final = 90
_TOP: Final = 62
_BAR: Final = 15
_GAP: Final = 14
_LINES_HEIGHT: Final = 300
_MANY: Final = 30
"""If values differ by more than so many times, the scale is logarithmic."""
_COLOURS: Final = (
    ("#0b62c4", "#6cb0ff"), ("#8a8f98", "#9aa2ad"), ("#b4570b", "#f0a35e"), ("#5b7f12", "#a9cf5c"),
    ("#8e3ba8", "#d79bec"), ("#a8324a", "#f28fa3"), ("#0f7d7d", "#5fd0cf"),
)  # fmt: skip
"""For each contender in order, on light and on dark pages."""


def write_plots(document: Document, folder: Path) -> list[Path]:
    """Write `NAME.svg` for each figure that has values; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for report in document.reports:
        for figure in report.figures:
            if figure.cases and not figure.is_detail:
                file = folder / f"{figure.name}.svg"
                file.write_text(plot(figure), encoding="utf-8")
                written.append(file)
    return written


def plot(figure: Figure) -> str:
    """Draw a figure: lines if its cases stand along an axis and there are several, else bars."""
    points = [case for case in figure.cases if case.x is not None]
    return _lines(figure) if figure.axis and len(points) > 1 else _bars(figure)


def _bars(figure: Figure) -> str:
    values = [value.median for case in figure.cases for value in case.values.values()]
    scale, kind = _scale(values, 0, WIDTH - _LEFT - _RIGHT, is_from_zero=True)
    parts, y = [], float(_TOP)
    for case in figure.cases:
        height = _BAR * len(case.values)
        parts.append(_text(_LEFT - 8, y + height / 2 + 4, case.label, anchor="end"))
        for name, value in case.values.items():
            colour = figure.contenders.index(name) % len(_COLOURS)
            length = scale(value.median)
            parts.append(
                f'<rect class="c{colour}" x="{_LEFT}" y="{y:.1f}" width="{max(1, length):.1f}" '
                f'height="{_BAR - 2}"/>'
            )
            if value.samples > 1:
                middle, low, high = y + _BAR / 2 - 1, scale(value.low), scale(value.high)
                parts.append(
                    f'<path class="spread" d="M{_LEFT + low:.1f} {middle:.1f}H{_LEFT + high:.1f}"/>'
                )
            end = _LEFT + max(length, scale(value.high)) + 5
            parts.append(_text(end, y + _BAR - 4, number(value.median), kind="value"))
            y += _BAR
        y += _GAP
    return _document(figure, parts, y + 4, kind)


def _lines(figure: Figure) -> str:
    cases = sorted((c for c in figure.cases if c.x is not None), key=lambda case: case.x or 0)
    values = [value.median for case in cases for value in case.values.values()]
    bottom = _TOP + _LINES_HEIGHT
    across, _ = _scale([case.x or 0 for case in cases], 70, WIDTH - _RIGHT, is_from_zero=False)
    up, kind = _scale(values, bottom - 8, _TOP + 8, is_from_zero=True)
    parts = [f'<path class="axis" d="M60 {_TOP}V{bottom}H{WIDTH - _RIGHT + 10}"/>']
    parts += [
        _text(54, up(value) + 4, number(value), anchor="end", kind="value")
        for value in (min(values), max(values))
    ]
    parts += [
        _text(across(case.x or 0), bottom + 18, f"{case.x:,g}", anchor="middle", kind="value")
        for case in cases
    ]
    parts.append(_text((60 + WIDTH - _RIGHT) / 2, bottom + 36, figure.axis, anchor="middle"))
    for colour, name in enumerate(figure.contenders):
        points = [
            (across(case.x or 0), up(case.values[name].median))
            for case in cases
            if name in case.values
        ]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="line l{colour % len(_COLOURS)}" d="M{path}"/>')
        parts += [
            f'<circle class="c{colour % len(_COLOURS)}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
            for x, y in points
        ]
        x, y = points[-1]
        parts.append(_text(x + 8, y + 4, name, kind="value"))
    return _document(figure, parts, bottom + 48, kind)


def _scale(
    values: Sequence[float], start: float, end: float, *, is_from_zero: bool
) -> tuple[Callable[[float], float], str]:
    """Return where a value lies between two places, and what to call the scale."""
    least, most = min((v for v in values if v > 0), default=1.0), max(*values, 1e-12)
    if least > 0 and most / least > _MANY:
        low = math.log(least / 2 if is_from_zero else least)
        span = math.log(most) - low
        return (
            lambda v: start + (end - start) * max(0.0, (math.log(max(v, 1e-12)) - low) / span),
            ", logarithmic",
        )
    low = 0.0 if is_from_zero else min(values)
    span = (most - low) or 1.0
    return lambda v: start + (end - start) * (v - low) / span, ""


def _document(figure: Figure, parts: Sequence[str], height: float, scale: str) -> str:
    better = f"{figure.better} is better"
    told = "; ".join(
        f"{case.label}: "
        + ", ".join(f"{name} {number(value.median)}" for name, value in case.values.items())
        for case in figure.cases
    )
    legend, x = [], 12.0
    for colour, name in enumerate(figure.contenders):
        legend.append(f'<rect class="c{colour % len(_COLOURS)}" x="{x:.0f}" y="40" width="10" '
                      'height="10"/>')  # fmt: skip
        legend.append(_text(x + 15, 49, name))
        x += 32 + 6.6 * len(name)
    return "\n".join([
        (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" role="img" aria-labelledby="title desc">'),
        f'<title id="title">{escape(figure.title)}</title>',
        f'<desc id="desc">{escape(f"{figure.unit}, {better}. {told}")}</desc>',
        f"<style>{_style()}</style>",
        _text(12, 20, figure.title, kind="title"),
        _text(12, 34, f"{figure.unit}{scale}; {better}", kind="value"),
        *legend,
        *parts,
        "</svg>\n",
    ])  # fmt: skip


def _style() -> str:
    """The rules for light pages, and those for dark ones."""

    def rules(column: int, ink: str, faint: str) -> str:
        contenders = "".join(
            f".c{n}{{fill:{pair[column]}}}.l{n}{{stroke:{pair[column]}}}"
            for n, pair in enumerate(_COLOURS)
        )
        return f"text{{fill:{ink}}}.axis,.spread{{stroke:{faint}}}{contenders}"

    return (
        "text{font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}"
        ".value{font-size:11px}.axis,.spread,.line{fill:none}.spread{stroke-width:2}"
        f".line{{stroke-width:2}}{rules(0, '#1c2128', '#1c2128')}"
        f"@media(prefers-color-scheme:dark){{{rules(1, '#e6edf3', '#e6edf3')}}}"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "", kind: str = "") -> str:
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchor}{kind}>{escape(text)}</text>'
