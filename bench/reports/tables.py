"""Figures as text: lines while a benchmark runs, tables at its end, and tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.reports.document import Document
    from bench.reports.figure import Case, Figure
    from bench.reports.measured import Measured


def number(value: float) -> str:
    """Write a number with three digits that count, and thousands set apart."""
    if value == 0:
        return "0"
    size = abs(value)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:,.{decimals}f}" if size >= 0.0005 else f"{value:.2g}"


def measured(value: Measured | None) -> str:
    """Write a median with its spread; an empty string if nothing was measured."""
    if value is None:
        return ""
    return (
        number(value.median)
        if value.samples == 1
        else (f"{number(value.median)} ±{number(value.spread)}")
    )


def quotient(ratio: float | None) -> str:
    """Write a ratio with two digits that count; an empty string if there is none."""
    if ratio is None:
        return ""
    return f"{ratio:,.0f}" if ratio >= 99.5 else f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def case_line(figure: Figure, case: Case) -> str:
    """One case on one line, printed as soon as it is known."""
    values = "  ".join(f"{name} {measured(value)}" for name, value in case.values.items())
    note = f"  ({case.note})" if case.note else ""
    return f"  {figure.title}, {case.label}: {values} {figure.unit}{note}"


def rows(figure: Figure) -> list[list[str]]:
    """Return the table of a figure: a head, and a row for each case."""
    names = figure.contenders
    has_ratio = any(figure.ratio(case) is not None for case in figure.cases)
    has_note = any(case.note for case in figure.cases)
    head = ["", *names]
    head += [f"ours / {figure.peer}"] * has_ratio + [""] * has_note
    table = [head]
    for case in figure.cases:
        ratio = figure.ratio(case)
        row = [case.label, *(measured(case.values.get(name)) for name in names)]
        row += [quotient(ratio)] * has_ratio + [case.note] * has_note
        table.append(row)
    return table


def text_table(table: Sequence[Sequence[str]], *, indent: str = "  ") -> str:
    """Set a table in columns: the first to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(document: Document) -> str:
    """Write one table with every case of every benchmark, and what was missed and left out."""
    table = [["", "unit", "ours", "peer", "", "ours / peer", "load"]]
    after = []
    for report in document.reports:
        load = f"{report.load_before:.1f} to {report.load_after:.1f}"
        for figure in report.figures:
            for case in () if figure.is_detail else figure.cases:
                ratio = figure.ratio(case)
                peer = "" if ratio is None else figure.peer or ""
                table.append([
                    f"{figure.title}, {case.label}",
                    figure.unit,
                    measured(case.values.get("ours")),
                    peer,
                    measured(case.values.get(peer)),
                    quotient(ratio),
                    load,
                ])  # fmt: skip
        after += [
            f"missed: {e.what}: wanted {e.want}, got {e.got}"
            for e in report.expected
            if not e.holds
        ]
        after += [f"left out of {report.name}: {o.what}: {o.reason}" for o in report.left_out]
        if report.error:
            after.append(f"FAILED: {report.name}: {report.error}")
    return "\n".join([text_table(table), *(f"  {line}" for line in after)])
