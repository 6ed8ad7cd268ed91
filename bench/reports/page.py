"""Puts a run into docs/benchmarks.md: everything between the marks of a figure, and its plot.

    <!-- bench: fanout -->
    (plot, table, load, expectations; written by a program)
    <!-- end -->

The name is that of a benchmark. `<!-- bench: machine -->` gets the machine and the run.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.reports.document import decode
from bench.reports.plots import write_plots
from bench.reports.tables import markdown_table, rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.reports.document import Document
    from bench.reports.report import Report

PAGE: Final = Path(__file__).parents[2] / "docs/benchmarks.md"
IMAGES: Final = PAGE.parent / "images/bench"
_SECTION: Final = re.compile(r"(<!-- bench: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_page(files: Sequence[Path], *, page: Path = PAGE, images: Path = IMAGES) -> int:
    """Put the reports of these files into the page and the plots beside it; return the status.

    A later file's report of a benchmark replaces an earlier one's. Benchmarks that failed leave
    their section as it was, and those without a section are named.
    """
    sections: dict[str, str] = {}
    for file in files:
        try:
            document = decode(file.read_bytes())
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            print(f"python -m bench report: {file}: {why}", file=sys.stderr)
            return 1
        document.reports = [report for report in document.reports if not report.error]
        write_plots(document, images)
        sections["machine"] = machine_text(document)
        for report in document.reports:
            sections[report.name] = report_text(report)
    text, unused = filled(page.read_text(encoding="utf-8"), sections)
    page.write_text(text, encoding="utf-8")
    for name in unused:
        print(f"python -m bench report: {page.name} has no section for {name}", file=sys.stderr)
    return 0


def filled(text: str, sections: Mapping[str, str]) -> tuple[str, list[str]]:
    """Replace the marked sections of a page; return it, and the names that it has no place for."""
    used = set()

    def replaced(match: re.Match[str]) -> str:
        if match[2] not in sections:
            return match[0]
        used.add(match[2])
        return f"{match[1]}\n{sections[match[2]]}\n\n{match[3]}"

    return _SECTION.sub(replaced, text), [name for name in sections if name not in used]


def machine_text(document: Document) -> str:
    """Describe machine and run in a sentence."""
    machine = document.machine
    commit = f", commit `{document.commit}`" if document.commit else ""
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB, "
        f"{machine.system}, Python {machine.python}; `{document.size}` size, "
        f"{document.started}{commit}."
    )


def report_text(report: Report) -> str:
    """Write a benchmark's figures in Markdown: for each a plot and a table, then what was found."""
    parts = []
    for figure in report.figures:
        if figure.cases and not figure.is_detail:
            parts.append(f"![{figure.title}](images/bench/{figure.name}.svg)")
            parts.append(f"{figure.title}, {figure.unit}:")
            parts.append(markdown_table(rows(figure)))
    lines = [
        f"* {'Met' if e.holds else '**Missed**'}: {e.what}: wanted {e.want}, got {e.got}."
        for e in report.expected
    ]
    lines += [f"* Left out: {out.what}: {out.reason}." for out in report.left_out]
    if lines:
        parts.append("\n".join(lines))
    parts.append(
        f"{report.checked}{' ' if report.checked else ''}Load average "
        f"{report.load_before:.1f} before and {report.load_after:.1f} after, "
        f"{report.seconds:.0f} s."
    )
    return "\n\n".join(parts)
