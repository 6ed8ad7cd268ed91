"""Costs from observations, and from documents."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.model import costs
from bench.model.costs import Costs, Observation
from bench.reports.document import Document, Machine
from bench.reports.figure import OURS
from bench.reports.report import Report

IDLE = Observation(
    label="idle", gateways=1, active=0, seconds=10, batches=0, events=0, rows=1, deliveries=0,
    clients=0, questions=0, cohorts=1, row_bytes=0, gateway_us=50_000, question_us=10_000,
    relay_us=60_000, primary_us=0, redis_us=20_000, redis_bytes=2_000, wal_bytes=0,
)  # fmt: skip
TRUE = {
    "gateway_second_us": 5_000, "gateway_tick_us": 300, "gateway_question_us": 1_000,
    "gateway_event_us": 70, "gateway_write_us": 8, "gateway_delivery_us": 1,
    "question_second_us": 1_000, "question_tick_us": 3, "question_us": 2_000,
    "question_event_us": 30, "question_cohort_us": 1, "relay_second_us": 6_000,
    "relay_wake_us": 500, "primary_wake_us": 400,
    "relay_batch_us": 800, "relay_event_us": 60, "primary_batch_us": 700, "primary_event_us": 90,
    "redis_second_us": 2_000, "redis_batch_us": 60, "redis_message_us": 10,
    "redis_batch_bytes": 200, "redis_event_bytes": 45, "wal_batch_bytes": 600,
    "wal_event_bytes": 500,
}  # fmt: skip


def observed(
    batches: int, events: int, *, gateways: int = 1, active: int | None = None,
    clients: int = 0, audience: int = 0, questions: int = 0, cohorts: float = 1,
) -> Observation:  # fmt: skip
    """Return what a stack with the true costs would take."""
    counted = replace(
        IDLE, label="busy", gateways=gateways, active=gateways if active is None else active,
        batches=batches, events=events, deliveries=events * audience, clients=clients,
        questions=questions, cohorts=cohorts, row_bytes=150,
    )  # fmt: skip
    sums = {}
    for part, (regressors, _) in costs.PARTS.items():
        sums[part] = sum(TRUE[name] * count(counted) for name, count in regressors.items())
    return replace(
        counted, gateway_us=sums["gateways"], question_us=sums["questions"], relay_us=sums["relay"],
        primary_us=sums["relay sessions"], redis_us=sums["Redis"],
        redis_bytes=sums["Redis, bytes sent"] + counted.active * events * 150,
        wal_bytes=sums["write-ahead log, bytes"],
    )  # fmt: skip


OBSERVATIONS = [
    observed(0, 0, active=0),
    observed(200, 200, clients=400, audience=400, questions=200),
    observed(900, 2_000, clients=400, audience=400, questions=700),
    observed(900, 2_000, clients=400, audience=1, questions=700, cohorts=400),
    observed(900, 9_000, clients=400, audience=1, questions=300, cohorts=400),
    observed(200, 2_000, clients=20, audience=20, questions=190),
    observed(900, 2_000, active=0),
    observed(900, 2_000, gateways=2, clients=400, audience=400, questions=1_300),
    observed(200, 200, gateways=2, active=1, clients=20, audience=20, questions=190),
]


def test_costs_are_found_again_in_what_they_add_up_to() -> None:
    """Sums made from known costs give these costs."""
    found = costs.of_observations(OBSERVATIONS)
    for name, value in TRUE.items():
        assert found[name] == pytest.approx(value, rel=1e-3), name


def test_rounds_take_the_time_that_batches_wait() -> None:
    """With 90 batches and 70 rounds a second, a round takes 1/70 - 1/90 s."""
    busy = observed(900, 700, clients=400, audience=1, questions=700)
    took_us = (10 / 700 - 10 / 900) * 1e6
    cpu_us = 1_000 + 2_000 + 1 + 8 + 70 + 30
    assert costs.round_stretch([busy], TRUE) == pytest.approx(max(1.0, took_us / cpu_us))
    slow = observed(900, 400, clients=400, audience=1, questions=400)
    took_us = (10 / 400 - 10 / 900) * 1e6
    assert costs.round_stretch([slow], TRUE) == pytest.approx(took_us / cpu_us)


def test_rounds_are_not_stretched_where_none_was_busy() -> None:
    """Few batches never wait for each other."""
    quiet = observed(20, 20, clients=4, audience=1, questions=20)
    assert costs.round_stretch([quiet, IDLE], TRUE) == 1


def test_a_relay_sleeps_between_few_transactions() -> None:
    """And never between many."""
    assert costs.asleep(1) > 0.99
    assert costs.asleep(2_000) < 0.02


@pytest.mark.parametrize(
    ("events", "batches", "step_ms"),
    [
        (2_000, 1_250, 1.0),  # 8 ms between batches: 5 until a commit, 2 wait, 1 step
        (2_000, 500, 7.5),  # 20 ms: 5 until a commit, and the wait is as long as the step
        (40_000, 400, 4.75),  # 24.75 ms, 20 of them wait
        (2_000, 2_000, 0.0),  # a batch for each
    ],
)
def test_a_step_is_what_is_left_between_two_batches(
    events: int, batches: int, step_ms: float
) -> None:
    """Besides the wait, and the time until something commits."""
    assert costs.step_us([observed(batches, events)]) == pytest.approx(step_ms * 1_000)


def test_steps_take_no_time_where_the_relay_was_not_busy() -> None:
    """Few transactions do not say how long a read takes."""
    assert costs.step_us([observed(20, 20), IDLE]) == 0


def test_a_write_has_all_that_a_round_has_for_a_client() -> None:
    """Ten events for everybody are one write to each; for one of many they are ten writes."""
    assert costs.writes_a_round(400, 400, 10) == 400
    assert costs.writes_a_round(400, 1, 10) == pytest.approx(10, rel=0.02)
    assert costs.writes_a_round(20, 50, 1) == 20


def test_nothing_is_written_where_nobody_listens() -> None:
    """A table without clients has no writes."""
    assert observed(900, 2_000, active=0).writes == 0


def document(**values: float) -> Document:
    """Return a run of `scale` with these costs."""
    report = Report("scale")
    figure = report.figure(costs.FIGURE, "Costs", "µs")
    other = report.figure("other", "Something else", "µs")
    report.add(other, "relay_batch_us", {OURS: 7.0})
    for name, value in values.items():
        report.add(figure, name, {OURS: value})
    machine = Machine("a processor", 2, 8, "Linux", "3.11")
    return Document(machine, "full", "2026-01-01T00:00:00", "abc", [report])


def test_costs_are_read_from_a_run() -> None:
    """Each has its value in the figure of the costs."""
    values = {name: float(number) for number, name in enumerate(costs.NAMES)}
    assert costs.of_document(document(**values)) == Costs(**values)


def test_a_run_of_something_else_is_named_as_such() -> None:
    """The error says what is missing."""
    with pytest.raises(ValueError, match="bench scale`: it has no gateway_second_us"):
        costs.of_document(document())
