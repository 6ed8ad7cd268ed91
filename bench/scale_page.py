"""The tables of docs/scale.md, made from a run of `python -m bench scale`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import costs
from bench.figure import OURS
from bench.model import FULL, Deployment, most_events, usages
from bench.page import filled, machine_text
from bench.projects import PROJECTS, SIZES, sized
from bench.tables import markdown_table, number

if TYPE_CHECKING:
    from bench.costs import Costs
    from bench.document import Document

PAGE: Final = Path(__file__).parents[1] / "docs/scale.md"
CHECK: Final = "scale-check"
"""The figure with what was measured and what was predicted."""
PREDICTED: Final = "predicted"
LARGE: Final = Deployment(10_000_000, 1_000, regions=4, events=1_000, audience=100, read_servers=8)
"""The deployment that the page begins with."""
_STEPS: Final = (100.0, 1_000.0, 10_000.0)


def write(document: Document, *, page: Path = PAGE) -> None:
    """Put the tables of a run into the page; raises `ValueError` if it is none of `scale`."""
    page.write_text(made(page.read_text("utf-8"), document), "utf-8")


def made(text: str, document: Document) -> str:
    """Return the page with the tables of a run."""
    known = costs.of_document(document)
    [report] = [report for report in document.reports if report.name == "scale"]
    sections = {
        "machine": f"{machine_text(document)} Load average {report.load_before:.1f} before and"
        f" {report.load_after:.1f} after.",
        "costs": costs_table(known),
        "check": check_table(document),
        "large": large_table(known),
        "projects": projects_table(known),
    }
    return filled(text, sections)[0]


def costs_table(known: Costs) -> str:
    """Each constant, with its meaning."""
    rows = [["constant", "value", "for each"]]
    for name in costs.NAMES:
        unit = "bytes" if name.endswith("_bytes") else "µs"
        value = getattr(known, name)
        rows.append([f"`{name}`", f"{number(value)} {unit}", costs.MEANINGS[name]])
    return markdown_table(rows)


def check_table(document: Document) -> str:
    """Measured beside predicted, and the error, in percent of what was measured."""
    rows = [["", "measured", "predicted", "error"]]
    for report in document.reports:
        for figure in report.figures:
            for case in figure.cases if figure.name == CHECK else ():
                measured, predicted = case.values[OURS].median, case.values[PREDICTED].median
                error = f"{predicted / measured - 1:+.0%}" if measured else ""
                rows.append([case.label, number(measured), number(predicted), error])
    return markdown_table(rows)


def large_table(known: Costs) -> str:
    """Share of each part that 1,000 gateways with 10 million clients use, by rate of changes."""
    deployments = [replace(LARGE, events=events) for events in _STEPS]
    columns = [usages(known, deployment) for deployment in deployments]
    rows = [["", *(f"{events:,.0f} changes/s" for events in _STEPS)]]
    for usage, *others in zip(*columns, strict=True):
        shares = [f"{_text(u.used)} {u.unit}, {u.share:.0%}" for u in (usage, *others)]
        rows.append([usage.part, *shares])
    events, limit = most_events(known, LARGE)
    return (
        f"{markdown_table(rows)}\n\nFirst above {FULL:.0%}, at {events:,.0f} changes a second:"
        f" {limit.part}."
    )


def projects_table(known: Costs) -> str:
    """What each typical project needs, by its number of clients."""
    head = ["project", "clients", "regions", "changes/s", "gateways", "read servers a region",
            "used most", "full at"]  # fmt: skip
    rows = [head]
    for project in PROJECTS.values():
        for clients, regions in SIZES:
            deployment = sized(known, project, clients, regions)
            most = max(usages(known, deployment), key=lambda usage: usage.share)
            events, limit = most_events(known, deployment)
            rows.append([
                project.name,
                f"{clients:,}",
                str(regions),
                number(deployment.events),
                f"{deployment.gateways:,}",
                f"{deployment.read_servers:,}",
                f"{most.part}, {most.share:.0%}",
                f"{_text(events)} changes/s: {limit.part}",
            ])  # fmt: skip
    return markdown_table(rows)


def _text(value: float) -> str:
    return number(float(f"{value:.2g}"))
