"""`python -m bench simulate`: what a deployment would use of each part, and what is full first.

    python -m bench simulate --project chat --clients 1000000 --regions 2
    python -m bench simulate --clients 10000000 --gateways 1000 --regions 4 --events 2000
    python -m bench scale --json costs.json && python -m bench simulate --costs costs.json ...
    python -m bench simulate --page          (writes the tables of docs/scale.md again)

A project brings its own events, audience and cohorts; each of them can be given instead. Without
--gateways as many are taken as are needed. Nothing is started and nothing measured: the costs come
from a run of `python -m bench scale`, by default the one that docs/scale.md is made from.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.model import costs, scale_page
from bench.model.advice import ADVICE
from bench.model.projects import PROJECTS
from bench.model.usage import (
    FULL,
    Deployment,
    most_events,
    needed_gateways,
    needed_read_servers,
    usages,
)
from bench.reports.document import decode
from bench.reports.tables import number, text_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.model.costs import Costs
    from bench.reports.document import Document

COSTS: Final = Path(__file__).with_name("costs.json")
"""The run of `scale` that docs/scale.md is made from."""
_DEFAULT: Final = {
    field.name: field.default
    for field in fields(Deployment)
    if isinstance(field.default, (int, float))
}
OPTIONS: Final = {
    "clients": "open streams in all regions",
    "gateways": "in all regions; by default as many as are needed",
    "regions": "each with a Redis and read servers of its own",
    "events": "changes a second",
    "events-per-transaction": "changes in a transaction",
    "audience": "clients that get a change",
    "users-per-cohort": "clients with the same values of all claims that policies read",
    "tables": "tables that change together",
    "subscribed": "share of the gateways with clients of a table, 0 to 1",
    "row-bytes": "of a row as JSON",
    "session-seconds": "how long a stream lasts",
    "heartbeat-seconds": "AYB_REALTIME_HEARTBEAT_SECONDS",
    "gateway-memory-gib": "memory of a gateway",
    "gateway-network-mbit": "network of a gateway",
    "read-cores": "cores of a read server",
    "read-servers": "in each region; by default as many as are needed",
    "read-sessions": "max_connections of a read server",
    "pool-connections": "AYB_REALTIME_POOL_CONNECTIONS",
    "primary-cores": "cores of the primary that capture may use",
    "redis-network-mbit": "network of a Redis",
    "wide-area-mbit": "from the primary's region to each other one",
}


def main(arguments: list[str]) -> int:
    """Print what a deployment uses; return the exit status: 2 if the costs cannot be read."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        document = decode(given.costs.read_bytes())
        known = costs.of_document(document)
    except (OSError, ValueError) as error:
        print(f"python -m bench simulate: {given.costs}: {error}", file=sys.stderr)
        return 2
    if given.page:
        scale_page.write(document)
        return 0
    if given.project is None and given.clients is None:
        parser.error("--clients or --project is needed")
    try:
        deployment = deployment_of(known, given)
    except ValueError as error:
        parser.error(str(error))
    print(text(known, deployment))
    return 0


def kept_run() -> Document:
    """Return the run of `scale` that docs/scale.md is made from."""
    return decode(COSTS.read_bytes())


def deployment_of(known: Costs, given: argparse.Namespace) -> Deployment:
    """Return the deployment that is asked for; raises `ValueError` if it cannot exist."""
    values = {
        name.replace("-", "_"): getattr(given, name.replace("-", "_"))
        for name in OPTIONS
        if getattr(given, name.replace("-", "_")) is not None
    }
    clients = values.pop("clients", 100_000)
    base = (
        Deployment(clients, 1)
        if given.project is None
        else PROJECTS[given.project].of_clients(clients)
    )
    deployment = replace(base, ticks_only=given.ticks_only, **values)
    if deployment.regions > deployment.gateways and given.gateways is not None:
        raise ValueError("each region needs a gateway")
    if given.gateways is None:
        deployment = replace(deployment, gateways=deployment.regions)
        needed = needed_gateways(known, deployment)
        if needed is None:
            raise ValueError(
                "no number of gateways is enough: a gateway is full by what each does for itself"
            )
        deployment = replace(deployment, gateways=needed)
    if given.read_servers is None:
        deployment = replace(deployment, read_servers=needed_read_servers(known, deployment))
    return deployment


def text(known: Costs, deployment: Deployment) -> str:
    """Write what a deployment uses, what is full first, and what to do then."""
    found = sorted(usages(known, deployment), key=lambda usage: -usage.share)
    table = [["part", "used", "of", "", "share"]]
    table += [
        [u.part, number(u.used), number(u.available), u.unit, f"{u.share:.0%}"] for u in found
    ]
    events, limit = most_events(known, deployment)
    lines = [
        f"{deployment.clients:,} clients, {deployment.gateways:,} gateways",
        f"{deployment.regions} regions with {deployment.read_servers} read servers each",
        f"{deployment.events:,.0f} changes/s, for {deployment.audience:,.0f} clients each",
        "",
        text_table(table, indent=""),
        "",
        f"First full, at {events:,.0f} changes/s ({FULL:.0%}): {limit.part}. {ADVICE[limit.part]}.",
    ]
    lines += [
        f"Too full now: {usage.part}, {usage.share:.0%}. {ADVICE[usage.part]}."
        for usage in found
        if usage.share > FULL and usage.part != limit.part
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--project", choices=PROJECTS, help="a typical project")
    for name, meaning in OPTIONS.items():
        default = _DEFAULT.get(name.replace("-", "_"))
        kind = type(default) if default is not None else int
        shown = (
            f" (default {default:g})" if default is not None and "by default" not in meaning else ""
        )
        parser.add_argument(
            f"--{name}", type=_positive(kind), metavar="N", help=f"{meaning}{shown}"
        )
    parser.add_argument("--ticks-only", action="store_true", help="far regions get content=ticks")
    parser.add_argument("--costs", type=Path, default=COSTS, metavar="FILE", help="from --json")
    parser.add_argument("--page", action="store_true", help="write docs/scale.md again")
    return parser


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(value: str) -> float:
        found = kind(value.replace(",", "").replace("_", ""))
        if found <= 0:
            raise ValueError(value)
        return found

    read.__name__ = "positive number"
    return read
