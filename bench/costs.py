"""What each step of the way from commit to client costs: the constants of docs/scale.md.

The benchmark `scale` measures the CPU time of gateways, their sessions, relay and Redis while
rates, audiences and cohorts differ. `of_observations` divides these sums into the costs of a batch,
an event, a delivery and a cohort, and `of_document` reads them from what `--json` wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.figure import OURS
from bench.fit import non_negative

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.document import Document

FIGURE: Final = "scale-costs"
"""The figure of `scale` that has the costs; its cases are named like the fields of `Costs`."""


MEANINGS: Final = {
    "gateway_second_us": "second of an idle gateway",
    "gateway_tick_us": "batch, at any gateway: its tick",
    "gateway_batch_us": "batch, at a gateway with clients of its table, besides the tick",
    "gateway_event_us": "event, at such a gateway",
    "gateway_delivery_us": "event written to one client",
    "gateway_connect_us": "stream that opens",
    "gateway_stream_bytes": "open stream, in a gateway's memory",
    "question_second_us": "second of an idle gateway, in its sessions in Postgres",
    "question_tick_us": "batch at any gateway, in its sessions",
    "question_batch_us": "question: one a batch, table and gateway with clients of it",
    "question_event_us": "event in a question",
    "question_cohort_us": "cohort in a question",
    "capture_us": "change, in the session that writes it: trigger and outbox",
    "primary_batch_us": "batch, in the relay's sessions in Postgres",
    "primary_event_us": "change in a batch, in the relay's sessions",
    "relay_second_us": "second of an idle relay",
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


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU time, and bytes, for each of `MEANINGS`."""

    gateway_second_us: float
    gateway_tick_us: float
    gateway_batch_us: float
    gateway_event_us: float
    gateway_delivery_us: float
    gateway_connect_us: float
    gateway_stream_bytes: float
    question_second_us: float
    question_tick_us: float
    question_batch_us: float
    question_event_us: float
    question_cohort_us: float
    capture_us: float
    primary_batch_us: float
    primary_event_us: float
    relay_second_us: float
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
    deliveries: int
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


Regressors = dict[str, "Callable[[Observation], float]"]

_GATEWAY: Final[Regressors] = {
    "gateway_second_us": lambda o: o.gateways * o.seconds,
    "gateway_tick_us": lambda o: o.gateways * o.batches,
    "gateway_batch_us": lambda o: o.active * o.batches,
    "gateway_event_us": lambda o: o.active * o.events,
    "gateway_delivery_us": lambda o: o.deliveries,
}
_QUESTIONS: Final[Regressors] = {
    "question_second_us": lambda o: o.gateways * o.seconds,
    "question_tick_us": lambda o: o.gateways * o.batches,
    "question_batch_us": lambda o: o.active * o.batches,
    "question_event_us": lambda o: o.active * o.events,
    "question_cohort_us": lambda o: o.active * o.batches * o.cohorts,
}
_RELAY: Final[Regressors] = {
    "relay_second_us": lambda o: o.seconds,
    "relay_batch_us": lambda o: o.batches,
    "relay_event_us": lambda o: o.events,
}
_PRIMARY: Final[Regressors] = {
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
    return found


def predicted(costs: Mapping[str, float], observation: Observation) -> dict[str, float]:
    """Return what the costs say that an observation should have taken, by part, as measured."""
    return {
        part: sum(costs[name] * count(observation) for name, count in regressors.items())
        for part, (regressors, _) in PARTS.items()
    }


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
