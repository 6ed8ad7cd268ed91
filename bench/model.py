"""The model of docs/scale.md: what a deployment uses of each part, and which one is full first.

Everything is a sum of counts times measured costs (`costs`). Pure: no clock, no files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from relay.pace import FULL_RATE, LEAST_SECONDS, MOST_SECONDS

if TYPE_CHECKING:
    from bench.costs import Costs

FULL: Final = 0.7
"""A part that is used by more than this has no room for bursts, failures and rolling restarts."""

_US: Final = 1e-6
_STEP_SECONDS: Final = 0.002
"""What the relay needs for a batch itself, besides its wait."""
_MOST_EVENTS: Final = 1e7
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is asked of a deployment, and what it consists of."""

    clients: int
    """Open streams, in all regions."""
    gateways: int
    """In all regions."""
    regions: int = 1
    events: float = 100.0
    """Changes a second, in all tables."""
    events_per_transaction: float = 1.0
    audience: float = 10.0
    """Clients that get an event, of all."""
    users_per_cohort: float = 1.0
    """Clients that Postgres cannot tell apart: 1 if policies read the user, 1,000 for tenants of
    1,000 clients, as many as there are clients if policies read no claim."""
    tables: int = 1
    """Tables that change together: each has a question for each batch."""
    subscribed: float = 1.0
    """Share of the gateways that have a client for an event's table."""
    row_bytes: int = 250
    session_seconds: float = 1_800.0
    """How long a stream lasts: each begins with a connect."""
    heartbeat_seconds: float = 25.0
    ticks_only: bool = False
    """Whether far regions get ticks alone, and read the content from their replica."""

    gateway_memory_gib: float = 2.0
    gateway_network_mbit: float = 1_000.0
    read_cores: float = 8.0
    """Of each server that gateways ask."""
    read_servers: int = 1
    """In each region."""
    read_sessions: int = 500
    """`max_connections` of such a server, or of the pooler before it."""
    pool_connections: int = 8
    """AYB_REALTIME_POOL_CONNECTIONS of a gateway."""
    primary_cores: float = 16.0
    redis_network_mbit: float = 10_000.0
    wide_area_mbit: float = 1_000.0
    """From the primary's region to each other one."""

    @property
    def gateways_per_region(self) -> float:
        """Gateways that share a Redis and read servers."""
        return self.gateways / self.regions


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a part is used, by its unit, and how much there is of it."""

    part: str
    used: float
    available: float
    unit: str

    @property
    def share(self) -> float:
        """The share that is used; more than 1 means that it does not work."""
        return self.used / self.available


def batches_per_second(events: float, events_per_transaction: float) -> float:
    """Return how many batches the relay makes of so many changes a second.

    Without a wait there would be one for each transaction. After a batch the relay waits longer the
    more changes there are (see `relay.pace`), and all that is committed meanwhile is one batch.
    """
    transactions = events / events_per_transaction
    wait = min(max(MOST_SECONDS * events / FULL_RATE, LEAST_SECONDS), MOST_SECONDS)
    return transactions / (1 + transactions * (wait + _STEP_SECONDS))


def usages(costs: Costs, d: Deployment) -> list[Usage]:
    """Return how much of each part a deployment uses."""
    batches = batches_per_second(d.events, d.events_per_transaction)
    questions = batches * min(d.tables, max(1.0, d.events / batches)) if batches else 0.0
    active = d.gateways_per_region * d.subscribed
    clients = d.clients / d.gateways
    deliveries = d.events * d.audience / d.gateways
    written = deliveries + clients / d.heartbeat_seconds
    gateway = (
        costs.gateway_second_us
        + batches * costs.gateway_tick_us
        + d.subscribed * (questions * costs.gateway_batch_us + d.events * costs.gateway_event_us)
        + written * costs.gateway_delivery_us
        + clients / d.session_seconds * costs.gateway_connect_us
    )
    cohorts = clients / max(1.0, min(d.users_per_cohort, clients))
    question = (
        questions * costs.question_batch_us
        + d.events * costs.question_event_us
        + questions * cohorts * costs.question_cohort_us
    )
    asked = active * question
    asked += d.gateways_per_region * (costs.question_second_us + batches * costs.question_tick_us)
    redis = costs.redis_second_us + batches * costs.redis_batch_us
    far = d.regions - 1
    content = d.events * (d.row_bytes + costs.redis_event_bytes)
    published = batches * costs.redis_batch_bytes + content
    sent = d.gateways_per_region * (1 + batches) * costs.redis_batch_bytes
    sent += 0.0 if d.ticks_only and far else active * content
    across = batches * costs.redis_batch_bytes if d.ticks_only else published
    across += batches * costs.wal_batch_bytes + d.events * costs.wal_event_bytes
    messages = d.gateways_per_region * (1 + batches) + active * questions
    frames = deliveries * (d.row_bytes + costs.redis_event_bytes)
    found = [
        Usage("gateway, CPU", gateway * _US, 1.0, "cores"),
        Usage(
            "gateway, memory",
            clients * costs.gateway_stream_bytes / _GIB,
            d.gateway_memory_gib,
            "GiB",
        ),
        Usage("gateway, network", _mbit(frames), d.gateway_network_mbit, "Mbit/s"),
        Usage(
            "read servers, CPU",
            asked * _US,
            d.read_cores * d.read_servers,
            "cores",
        ),
        Usage(
            "read servers, sessions",
            d.gateways_per_region * d.pool_connections,
            float(d.read_sessions * d.read_servers),
            "sessions",
        ),
        Usage("Redis, CPU", (redis + messages * costs.redis_message_us) * _US, 1.0, "cores"),
        Usage("Redis, network", _mbit(sent), d.redis_network_mbit, "Mbit/s"),
        Usage(
            "relay, CPU",
            (
                costs.relay_second_us
                + batches * costs.relay_batch_us
                + d.events * costs.relay_event_us
            )
            * _US,
            1.0,
            "cores",
        ),
        Usage(
            "primary, CPU",
            (
                batches * costs.primary_batch_us
                + d.events * (costs.primary_event_us + costs.capture_us)
            )
            * _US,
            d.primary_cores,
            "cores",
        ),
    ]
    if far:
        found.append(Usage("wide area", _mbit(across), d.wide_area_mbit, "Mbit/s"))
    return found


def fullest(costs: Costs, deployment: Deployment) -> Usage:
    """Return the part that is used most."""
    return max(usages(costs, deployment), key=lambda usage: usage.share)


def most_events(costs: Costs, deployment: Deployment) -> tuple[float, Usage]:
    """Return how many changes a second are possible until a part is full, and which.

    The answer is 0 if a part is full without any change: sessions, or memory.
    """
    low, high = 0.0, _MOST_EVENTS
    for _ in range(60):
        middle = (low + high) / 2
        if fullest(costs, replace(deployment, events=middle)).share > FULL:
            high = middle
        else:
            low = middle
    return low, fullest(costs, replace(deployment, events=high))


def needed_gateways(costs: Costs, deployment: Deployment) -> int | None:
    """Return the fewest gateways with which no gateway is full, None if no number is enough.

    What every gateway does for itself (an event, a batch) does not shrink with their number.
    """
    low, high = deployment.regions, deployment.regions
    while not _gateways_suffice(costs, deployment, high):
        low, high = high + 1, high * 2
        if high > 1e6:
            return None
    while low < high:
        middle = (low + high) // 2
        if _gateways_suffice(costs, deployment, middle):
            high = middle
        else:
            low = middle + 1
    return high


def _gateways_suffice(costs: Costs, deployment: Deployment, gateways: int) -> bool:
    found = usages(costs, replace(deployment, gateways=gateways))
    return all(usage.share <= FULL for usage in found if usage.part.startswith("gateway"))


def needed_read_servers(costs: Costs, deployment: Deployment) -> int:
    """Return the fewest servers in each region that can answer the gateways' questions."""
    found = usages(costs, replace(deployment, read_servers=1))
    most = max(usage.share for usage in found if usage.part.startswith("read servers"))
    return max(1, -int(-most // FULL))


def _mbit(bytes_per_second: float) -> float:
    return bytes_per_second * 8 / 1e6
