"""The tables of docs/scale.md, made from a run of `python -m bench scale`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.model import costs
from bench.model.projects import PROJECTS, SIZES, sized
from bench.model.usage import FULL, Deployment, most_events, usages
from bench.reports.figure import OURS
from bench.reports.page import filled, machine_text
from bench.reports.tables import markdown_table, number

if TYPE_CHECKING:
    from bench.model.costs import Costs
    from bench.reports.document import Document
    from bench.reports.figure import Case

PAGE: Final = Path(__file__).parents[2] / "docs/scale.md"
CHECK: Final = "scale-check"
"""The figure with what was measured and what was predicted."""
PREDICTED: Final = "predicted"
LARGE: Final = Deployment(10_000_000, 1_000, regions=4, events=1_000, audience=100, read_servers=8)
"""The deployment that the page begins with."""
_STEPS: Final = (100.0, 1_000.0, 10_000.0)


def write(document: Document) -> None:
    """Put the tables of a run into the page; raises `ValueError` if it is none of `scale`."""
    PAGE.write_text(made(PAGE.read_text("utf-8"), document), "utf-8")


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
        unit = {"bytes": "bytes", "us": "µs"}.get(name.rpartition("_")[2], "times")
        value = getattr(known, name)
        rows.append([f"`{name}`", f"{number(value)} {unit}", costs.MEANINGS[name]])
    return markdown_table(rows)


def check_table(document: Document) -> str:
    """Measured, predicted and the error of it, for each number of gateways."""
    found: dict[str, dict[str, str]] = {}
    for report in document.reports:
        for figure in report.figures:
            for case in figure.cases if figure.name == CHECK else ():
                label, _, gateways = case.label.rpartition(", ")
                found.setdefault(label, {})[gateways] = _checked(case)
    columns = list(dict.fromkeys(name for row in found.values() for name in row))
    rows = [["", *columns]]
    rows += [[label, *(row.get(name, "") for name in columns)] for label, row in found.items()]
    return markdown_table(rows)


def _checked(case: Case) -> str:
    measured, predicted = case.values[OURS].median, case.values[PREDICTED].median
    error = f", {predicted / measured - 1:+.0%}" if measured else ""
    return f"{number(measured)} ({number(predicted)}{error})"


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
