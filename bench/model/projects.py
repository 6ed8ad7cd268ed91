"""Typical projects, as deployments of any size: what docs/scale.md shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bench.model.usage import Deployment, needed_gateways, needed_read_servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.model.costs import Costs

SIZES: Final = ((10_000, 1), (100_000, 1), (1_000_000, 2), (10_000_000, 4))
"""Clients and regions."""


@dataclass(frozen=True, slots=True)
class Project:
    """A kind of project: what its clients do, in words and as a deployment."""

    name: str
    words: str
    of_clients: Callable[[int], Deployment]
    """Returns what so many clients ask for, with one gateway and one region."""


def _chat(clients: int) -> Deployment:
    return Deployment(
        clients, 1, events=clients / 120, audience=30, row_bytes=300, session_seconds=1_800
    )


def _dashboard(clients: int) -> Deployment:
    return Deployment(
        clients, 1, events=clients / 200, events_per_transaction=5, audience=200,
        users_per_cohort=200, tables=2, row_bytes=250, session_seconds=7_200,
    )  # fmt: skip


def _marketplace(clients: int) -> Deployment:
    return Deployment(
        clients, 1, events=clients / 600, events_per_transaction=2, audience=2, tables=3,
        row_bytes=500, session_seconds=600,
    )  # fmt: skip


def _scores(clients: int) -> Deployment:
    return Deployment(
        clients, 1, events=1, audience=clients, users_per_cohort=clients, row_bytes=200,
        session_seconds=3_600,
    )  # fmt: skip


PROJECTS: Final = {
    project.name: project
    for project in (
        Project(
            "chat",
            "each client writes a message every two minutes, for a room of 30; policies ask whose"
            " rooms those are, so each user is a cohort",
            _chat,
        ),
        Project(
            "dashboard",
            "tenants of 200 clients with one changed row a second each, five in a transaction, in"
            " two tables; all clients of a tenant see it, and are one cohort",
            _dashboard,
        ),
        Project(
            "marketplace",
            "each client orders, offers or writes something every ten minutes, two rows in a"
            " transaction, in three tables; a buyer and a seller see it, and each is a cohort",
            _marketplace,
        ),
        Project(
            "scores",
            "one public table with a change a second, which everybody sees",
            _scores,
        ),
    )
}


def sized(costs: Costs, project: Project, clients: int, regions: int) -> Deployment:
    """Return a project with the fewest gateways and read servers that are enough.

    If no number of gateways is enough, it has one for each 10,000 clients.
    """
    deployment = replace(project.of_clients(clients), regions=regions, gateways=regions)
    gateways = needed_gateways(costs, deployment) or max(regions, clients // 10_000)
    deployment = replace(deployment, gateways=gateways)
    return replace(deployment, read_servers=needed_read_servers(costs, deployment))
