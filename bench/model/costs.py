"""What each step of the way from commit to client costs: the constants of docs/scale.md.

The benchmark `scale` measures the CPU time of gateways, their sessions, relay and Redis while
rates, audiences and cohorts differ. `of_observations` divides these sums into the costs of a batch,
an event, a delivery and a cohort, and `of_document` reads them from what `--json` wrote.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.model.fit import non_negative
from bench.reports.figure import OURS
from relay.pace import FULL_RATE, LEAST_SECONDS, MOST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.reports.document import Document

FIGURE: Final = "scale-costs"
"""The figure of `scale` that has the costs; its cases are named like the fields of `Costs`."""


MEANINGS: Final = {
    "gateway_second_us": "second of an idle gateway",
    "gateway_tick_us": "batch, at any gateway: its tick",
    "round_stretch": "CPU time of a round: how long it takes on the clock, where other work waits",
    "gateway_question_us": "question that a gateway asks: one a round and table with clients of it",
    "gateway_event_us": "event, at a gateway with clients of its table",
    "gateway_write_us": "write to one client, of all events that a round has for it",
    "gateway_delivery_us": "event in such a write",
    "gateway_connect_us": "stream that opens",
    "gateway_stream_bytes": "open stream, in a gateway's memory",
    "question_second_us": "second of an idle gateway, in its sessions in Postgres",
    "question_tick_us": "batch at any gateway, in its sessions",
    "question_us": "question, in Postgres",
    "question_event_us": "event in a question",
    "question_cohort_us": "cohort in a question",
    "capture_us": "change, in the session that writes it: trigger and outbox",
    "primary_wake_us": "batch that wakes the relay, in its sessions in Postgres",
    "primary_batch_us": "batch, in the relay's sessions in Postgres",
    "primary_event_us": "change in a batch, in the relay's sessions",
    "step_us": "read of the relay, on the clock: what is committed meanwhile is in the next batch",
    "relay_second_us": "second of an idle relay",
    "relay_wake_us": "batch that wakes the relay",
    "relay_batch_us": "batch, in the relay",
    "relay_event_us": "change in a batch, in the relay",
    "redis_second_us": "second of an idle Redis",
    "redis_batch_us": "batch that is published, in Redis",
    "redis_message_us": "message from Redis to one gateway",
    "redis_batch_bytes": "batch, from Redis to one gateway: the tick, and the head of a message",
    "redis_event_bytes": "event, from Redis to one gateway, besides its row",
    "wal_batch_bytes": "batch, in the write-ahead log",
    "wal_event_bytes": "change, in the write-ahead log: row, image in the outbox, indexes",
}
"""What each cost is for, by the names of `Costs`."""
NAMES: Final = tuple(MEANINGS)

_BUSY: Final = 50
"""Batches or transactions a second at which some wait."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU time, and bytes, for each of `MEANINGS`; a stretch has no unit."""

    gateway_second_us: float
    gateway_tick_us: float
    round_stretch: float
    gateway_question_us: float
    gateway_event_us: float
    gateway_write_us: float
    gateway_delivery_us: float
    gateway_connect_us: float
    gateway_stream_bytes: float
    question_second_us: float
    question_tick_us: float
    question_us: float
    question_event_us: float
    question_cohort_us: float
    capture_us: float
    primary_wake_us: float
    primary_batch_us: float
    primary_event_us: float
    step_us: float
    relay_second_us: float
    relay_wake_us: float
    relay_batch_us: float
    relay_event_us: float
    redis_second_us: float
    redis_batch_us: float
    redis_message_us: float
    redis_batch_bytes: float
    redis_event_bytes: float
    wal_batch_bytes: float
    wal_event_bytes: float


@dataclass(frozen=True, slots=True)
class Observation:
    """What some seconds of a stack took, in sums over all gateways."""

    label: str
    gateways: int
    active: int
    """Gateways with clients of the table that was written to."""
    seconds: float
    batches: int
    events: int
    rows: int
    """In each transaction."""
    deliveries: int
    clients: int
    """Those of the table, at all gateways."""
    questions: int
    """Of all gateways."""
    cohorts: float
    """Of one active gateway."""
    row_bytes: int
    """Of each event's row as JSON."""
    gateway_us: float
    question_us: float
    relay_us: float
    primary_us: float
    """In the relay's sessions in Postgres."""
    redis_us: float
    redis_bytes: float
    """Sent by Redis."""
    wal_bytes: float

    @property
    def transactions(self) -> float:
        """How many were committed."""
        return self.events / self.rows

    @property
    def writes(self) -> float:
        """Writes to clients, as they are to be expected."""
        if not self.deliveries or not self.questions:
            return 0.0
        rounds = self.questions / self.active
        audience = self.deliveries / self.events
        return rounds * writes_a_round(self.clients, audience, self.events / rounds)


def writes_a_round(clients: float, audience: float, events: float) -> float:
    """Return how many of the clients get something, if each event is for any `audience` of them.

    A client is left out by an event with the probability 1 - audience / clients.
    """
    left_out = 1 - min(1.0, audience / clients)
    return clients * (1.0 - float(left_out**events))


Regressors = dict[str, "Callable[[Observation], float]"]

_GATEWAY: Final[Regressors] = {
    "gateway_second_us": lambda o: o.gateways * o.seconds,
    "gateway_tick_us": lambda o: o.gateways * o.batches,
    "gateway_question_us": lambda o: o.questions,
    "gateway_event_us": lambda o: o.active * o.events,
    "gateway_write_us": lambda o: o.writes,
    "gateway_delivery_us": lambda o: o.deliveries,
}
_QUESTIONS: Final[Regressors] = {
    "question_second_us": lambda o: o.gateways * o.seconds,
    "question_tick_us": lambda o: o.gateways * o.batches,
    "question_us": lambda o: o.questions,
    "question_event_us": lambda o: o.active * o.events,
    "question_cohort_us": lambda o: o.questions * o.cohorts,
}
_RELAY: Final[Regressors] = {
    "relay_second_us": lambda o: o.seconds,
    "relay_wake_us": lambda o: o.batches * asleep(o.transactions / o.seconds),
    "relay_batch_us": lambda o: o.batches,
    "relay_event_us": lambda o: o.events,
}
_PRIMARY: Final[Regressors] = {
    "primary_wake_us": lambda o: o.batches * asleep(o.transactions / o.seconds),
    "primary_batch_us": lambda o: o.batches,
    "primary_event_us": lambda o: o.events,
}
_WAL: Final[Regressors] = {
    "wal_batch_bytes": lambda o: o.batches,
    "wal_event_bytes": lambda o: o.events,
}
_REDIS: Final[Regressors] = {
    # Each second a tick goes to each gateway; with a batch a tick to each, a message to the active.
    "redis_second_us": lambda o: o.seconds,
    "redis_batch_us": lambda o: o.batches,
    "redis_message_us": lambda o: o.gateways * (o.seconds + o.batches) + o.active * o.batches,
}
_BYTES: Final[Regressors] = {
    "redis_batch_bytes": lambda o: o.gateways * (o.seconds + o.batches),
    "redis_event_bytes": lambda o: o.active * o.events,
}
PARTS: Final[dict[str, tuple[Regressors, Callable[[Observation], float]]]] = {
    "gateways": (_GATEWAY, lambda o: o.gateway_us),
    "questions": (_QUESTIONS, lambda o: o.question_us),
    "relay": (_RELAY, lambda o: o.relay_us),
    "relay sessions": (_PRIMARY, lambda o: o.primary_us),
    "Redis": (_REDIS, lambda o: o.redis_us),
    "Redis, bytes sent": (
        _BYTES,
        lambda o: max(0.0, o.redis_bytes - o.active * o.events * o.row_bytes),
    ),
    "write-ahead log, bytes": (_WAL, lambda o: o.wal_bytes),
}
"""By part: what each of its costs is counted by, and what was measured of the part."""


def of_observations(observations: Sequence[Observation]) -> dict[str, float]:
    """Divide what was measured into costs, by the names of `Costs`; some are not among them.

    Raises `ValueError` if nothing was measured of a part.
    """
    found: dict[str, float] = {}
    for regressors, measured in PARTS.values():
        rows = [[count(o) for count in regressors.values()] for o in observations]
        costs = non_negative(rows, [measured(o) for o in observations])
        found |= dict(zip(regressors, costs, strict=True))
    found["round_stretch"] = round_stretch(observations, found)
    found["step_us"] = step_us(observations)
    return found


def round_stretch(observations: Sequence[Observation], found: Mapping[str, float]) -> float:
    """Return how much longer a round takes on the clock than its CPU time; 1 if none was busy.

    One round follows another while batches wait: its seconds are those between two rounds, less
    those between two batches.
    """
    found_stretches = []
    for o in observations:
        if o.questions and o.batches > _BUSY * o.seconds:
            took = o.seconds * (o.active / o.questions - 1 / o.batches) * 1e6
            rounds = o.questions / o.active
            cpu = (
                found["gateway_question_us"]
                + found["question_us"]
                + found["question_cohort_us"] * o.cohorts
                + found["gateway_write_us"] * o.writes / o.questions
                + (found["gateway_event_us"] + found["question_event_us"]) * o.events / rounds
            )
            found_stretches.append(took / cpu)
    return max(1.0, statistics.median(found_stretches)) if found_stretches else 1.0


def step_us(observations: Sequence[Observation]) -> float:
    """Return how long a read of the relay takes on the clock, from how many batches it makes.

    Between two batches are the step, the wait after it, and the time until a transaction commits.
    The wait is as long as the step, or longer where the pace says so (`relay.pace`).
    """
    steps = []
    for o in observations:
        if o.transactions > _BUSY * o.seconds:
            between = o.seconds * (1 / o.batches - 1 / o.transactions)
            pace = wait_seconds(o.events / o.seconds)
            steps.append(max(0.0, between / 2 if between > 2 * pace else between - pace) * 1e6)
    return statistics.median(steps) if steps else 0.0


def asleep(transactions: float) -> float:
    """Return the share of batches that find the relay asleep: nothing came while it waited.

    It falls asleep when a read finds nothing. Transactions come at random times.
    """
    return math.exp(-transactions * LEAST_SECONDS)


def wait_seconds(events: float) -> float:
    """Return how long the relay waits after a batch at so many changes a second, by its pace."""
    return min(max(MOST_SECONDS * events / FULL_RATE, LEAST_SECONDS), MOST_SECONDS)


def of_document(document: Document) -> Costs:
    """Read the costs that a run of `scale` has found; raises `ValueError` if one is missing."""
    found = {
        case.label: case.values[OURS].median
        for report in document.reports
        for figure in report.figures
        if figure.name == FIGURE
        for case in figure.cases
    }
    if missing := [name for name in NAMES if name not in found]:
        raise ValueError(f"no run of `python -m bench scale`: it has no {missing[0]}")
    return Costs(**{name: found[name] for name in NAMES})
