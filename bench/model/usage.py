"""The model of docs/scale.md: what a deployment uses of each part, and which one is full first.

Everything is a sum of counts times measured costs (`costs`). Pure: no clock, no files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bench.model.costs import asleep, wait_seconds, writes_a_round
from relay.pace import MOST_SECONDS

if TYPE_CHECKING:
    from bench.model.costs import Costs

FULL: Final = 0.7
"""A part that is used by more than this has no room for bursts, failures and rolling restarts."""

_US: Final = 1e-6
_LEAST_EVENTS: Final = 0.001
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

    @property
    def of_a_gateway(self) -> tuple[float, float, float]:
        """Clients of a gateway, how many of them get an event, and their cohorts, on average."""
        clients = self.clients / self.gateways
        cohorts = clients / max(1.0, min(self.users_per_cohort, clients))
        return clients, min(self.audience, self.clients) / self.gateways, cohorts


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


def batches_per_second(events: float, events_per_transaction: float, step_seconds: float) -> float:
    """Return how many batches the relay makes of so many changes a second.

    Without a wait there would be one for each transaction. After a batch, which takes it a step of
    so many seconds, the relay waits as long again, and longer the more changes there are (see
    `relay.pace`). All that is committed meanwhile is one batch.
    """
    transactions = events / events_per_transaction
    wait = min(max(wait_seconds(events), step_seconds), MOST_SECONDS)
    return transactions / (1 + transactions * (wait + step_seconds))


@dataclass(frozen=True, slots=True)
class Demand:
    """What a second takes: microseconds of CPU time, and bytes."""

    batches: float
    rounds: float
    """Of each gateway with clients."""
    gateway_us: float
    """Of one gateway, as they are on average."""
    questions_us: float
    """Of all gateways of a region, in their sessions in Postgres."""
    relay_us: float
    primary_us: float
    """In the relay's sessions and for capture."""
    redis_us: float
    """Of the Redis of one region."""
    redis_bytes: float
    """Sent by it."""
    across_bytes: float
    """To each far region: what is published, and the write-ahead log."""
    frame_bytes: float
    """From one gateway to its clients."""


def rounds_per_second(costs: Costs, d: Deployment, batches: float) -> float:
    """Return how many rounds a gateway has: batches that come during one wait for the next.

    The more a round has to do, the more of them wait, and the less each costs. The number for which
    both agree is found by bisection: more rounds are shorter ones.
    """
    clients, audience, cohorts = d.of_a_gateway
    question = costs.gateway_question_us + costs.question_us + cohorts * costs.question_cohort_us
    low, high = 0.0, batches
    for _ in range(50):
        rounds = (low + high) / 2 or 1e-9
        events = d.events / rounds
        seconds = (
            min(d.tables, max(1.0, events)) * question
            + events * (costs.gateway_event_us + costs.question_event_us)
            + writes_a_round(clients, audience, events) * costs.gateway_write_us
        ) * (_US * costs.round_stretch)
        if rounds * (1 + batches * seconds) > batches:
            high = rounds
        else:
            low = rounds
    return low


def demand(costs: Costs, d: Deployment) -> Demand:
    """Return what a deployment takes in a second."""
    batches = batches_per_second(d.events, d.events_per_transaction, costs.step_us * _US)
    rounds = rounds_per_second(costs, d, batches)
    of_a_round = d.events / rounds if rounds else 0.0
    questions = rounds * min(d.tables, max(1.0, of_a_round))
    active = d.gateways_per_region * d.subscribed
    clients, audience, cohorts = d.of_a_gateway
    writes = rounds * writes_a_round(clients, audience, of_a_round)
    wakes = batches * asleep(d.events / d.events_per_transaction)
    gateway_us = (
        costs.gateway_second_us
        + batches * costs.gateway_tick_us
        + d.subscribed * questions * costs.gateway_question_us
        + d.subscribed * d.events * costs.gateway_event_us
        + (writes + clients / d.heartbeat_seconds) * costs.gateway_write_us
        + d.events * audience * costs.gateway_delivery_us
        + clients / d.session_seconds * costs.gateway_connect_us
    )
    questions_us = d.gateways_per_region * (
        costs.question_second_us + batches * costs.question_tick_us
    ) + active * (
        questions * (costs.question_us + cohorts * costs.question_cohort_us)
        + d.events * costs.question_event_us
    )
    content = d.events * (d.row_bytes + costs.redis_event_bytes)
    head = batches * costs.redis_batch_bytes
    tables = min(d.tables, max(1.0, d.events / batches)) if batches else 0.0
    messages = d.gateways_per_region * (1 + batches) + active * batches * tables
    has_content = not (d.ticks_only and d.regions > 1)
    wal = batches * costs.wal_batch_bytes + d.events * costs.wal_event_bytes
    return Demand(
        batches=batches,
        rounds=rounds,
        gateway_us=gateway_us,
        questions_us=questions_us,
        relay_us=costs.relay_second_us
        + wakes * costs.relay_wake_us
        + batches * costs.relay_batch_us
        + d.events * costs.relay_event_us,
        primary_us=wakes * costs.primary_wake_us
        + batches * costs.primary_batch_us
        + d.events * (costs.primary_event_us + costs.capture_us),
        redis_us=costs.redis_second_us
        + batches * costs.redis_batch_us
        + messages * costs.redis_message_us,
        redis_bytes=d.gateways_per_region * (costs.redis_batch_bytes + head)
        + active * content * has_content,
        across_bytes=head + content * has_content + wal,
        frame_bytes=d.events * audience * (d.row_bytes + costs.redis_event_bytes),
    )


def usages(costs: Costs, d: Deployment) -> list[Usage]:
    """Return how much of each part a deployment uses: of one gateway, of the parts of a region."""
    taken = demand(costs, d)
    memory = d.clients / d.gateways * costs.gateway_stream_bytes
    sessions = d.gateways_per_region * d.pool_connections
    read_cores = d.read_cores * d.read_servers
    read_sessions = float(d.read_sessions * d.read_servers)
    network = d.redis_network_mbit
    found = [
        Usage("gateway, CPU", taken.gateway_us * _US, 1.0, "cores"),
        Usage("gateway, memory", memory / _GIB, d.gateway_memory_gib, "GiB"),
        Usage("gateway, network", _mbit(taken.frame_bytes), d.gateway_network_mbit, "Mbit/s"),
        Usage("read servers, CPU", taken.questions_us * _US, read_cores, "cores"),
        Usage("read servers, sessions", sessions, read_sessions, "sessions"),
        Usage("Redis, CPU", taken.redis_us * _US, 1.0, "cores"),
        Usage("Redis, network", _mbit(taken.redis_bytes), network, "Mbit/s"),
        Usage("relay, CPU", taken.relay_us * _US, 1.0, "cores"),
        Usage("primary, CPU", taken.primary_us * _US, d.primary_cores, "cores"),
    ]
    if d.regions > 1:
        across = _mbit(taken.across_bytes)
        found.append(Usage("wide area", across, d.wide_area_mbit, "Mbit/s"))
    return found


def fullest(costs: Costs, deployment: Deployment) -> Usage:
    """Return the part that is used most."""
    return max(usages(costs, deployment), key=lambda usage: usage.share)


def most_events(costs: Costs, deployment: Deployment) -> tuple[float, Usage]:
    """Return how many changes a second are possible until a part is full, and which.

    The answer is 0 if a part is full without any change: sessions, or memory. Use does not always
    grow with the rate, since batches gather; what counts is the first part that is full.
    """

    def most(events: float) -> Usage:
        return fullest(costs, replace(deployment, events=events))

    low, high = 0.0, _LEAST_EVENTS
    while high < _MOST_EVENTS and most(high).share <= FULL:
        low, high = high, high * 1.1
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if most(middle).share > FULL else (middle, high)
    return low, most(high)


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
