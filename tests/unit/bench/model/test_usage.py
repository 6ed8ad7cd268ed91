"""The model of large deployments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.model import costs, projects
from bench.model.advice import ADVICE
from bench.model.costs import Costs
from bench.model.usage import (
    FULL,
    Deployment,
    batches_per_second,
    demand,
    fullest,
    most_events,
    needed_gateways,
    needed_read_servers,
    usages,
)

COSTS = replace(
    Costs(**dict.fromkeys(costs.NAMES, 0.0)),
    gateway_second_us=5_000, gateway_tick_us=300, round_stretch=1.5, gateway_question_us=1_000,
    gateway_event_us=70, gateway_write_us=8, gateway_delivery_us=0.5, gateway_connect_us=500,
    gateway_stream_bytes=15_000, question_second_us=1_000, question_tick_us=3, question_us=2_000,
    question_event_us=30, question_cohort_us=0.5, capture_us=100, primary_batch_us=700,
    primary_wake_us=500, relay_wake_us=500,
    primary_event_us=90, step_us=2_000, relay_second_us=6_000, relay_batch_us=800,
    relay_event_us=60, redis_second_us=2_000, redis_batch_us=60, redis_message_us=10,
    redis_batch_bytes=200, redis_event_bytes=45, wal_batch_bytes=600, wal_event_bytes=500,
)  # fmt: skip
SMALL = Deployment(1_000, 1, events=10, audience=10)


def share(deployment: Deployment, part: str) -> float:
    """Return the share of a part."""
    [found] = [usage for usage in usages(COSTS, deployment) if usage.part == part]
    return found.share


def test_few_transactions_have_a_batch_each() -> None:
    """At rest nothing waits."""
    assert batches_per_second(1, 1, 0.002) == pytest.approx(1, rel=0.01)


def test_many_transactions_share_batches() -> None:
    """Past the longest wait there are never more than 1 / 22 ms of them."""
    assert 40 < batches_per_second(10_000, 1, 0.002) < 46
    assert batches_per_second(1e6, 1, 0.002) <= 1 / 0.022


def test_a_slow_read_makes_fewer_batches() -> None:
    """The relay leaves writers as much time as its read took."""
    assert batches_per_second(1_000, 1, 0.01) == pytest.approx(1_000 / 21)


def test_changes_of_one_transaction_are_one_batch() -> None:
    """A hundred rows in one transaction are not a hundred batches."""
    assert batches_per_second(100, 100, 0.002) < 1.01


def test_without_changes_there_is_no_batch() -> None:
    """An idle deployment costs its seconds alone."""
    found = demand(COSTS, replace(SMALL, events=0, heartbeat_seconds=1e9, session_seconds=1e9))
    assert found.batches == found.rounds == found.across_bytes == 0
    assert found.gateway_us == pytest.approx(5_000, rel=0.01)
    assert found.relay_us == 6_000


def test_a_gateway_with_much_to_write_asks_less_often() -> None:
    """What comes during a round is asked about together in the next."""
    few, many = (
        demand(COSTS, replace(SMALL, clients=5_000, events=200, audience=audience))
        for audience in (1, 5_000)
    )
    assert few.batches == many.batches
    assert many.rounds < 0.5 * few.rounds < 0.5 * few.batches


def test_more_gateways_ask_more() -> None:
    """Each gateway asks for itself: the read servers pay for the number of gateways."""
    public = replace(SMALL, users_per_cohort=1e9)
    one, four = (demand(COSTS, replace(public, gateways=count)) for count in (1, 4))
    assert four.questions_us == pytest.approx(4 * one.questions_us, rel=0.05)


def test_gateways_without_clients_ask_nothing() -> None:
    """They get ticks alone: no content, no question."""
    everywhere = demand(COSTS, replace(SMALL, gateways=10))
    some = demand(COSTS, replace(SMALL, gateways=10, subscribed=0.1))
    assert some.questions_us < 0.2 * everywhere.questions_us
    assert some.redis_bytes < everywhere.redis_bytes
    assert some.relay_us == everywhere.relay_us


def test_tables_that_change_together_are_asked_about_one_by_one() -> None:
    """But a change is in one table only."""
    busy = replace(SMALL, events=1_000)
    one, ten = (demand(COSTS, replace(busy, tables=tables)) for tables in (1, 10))
    assert ten.questions_us > 2 * one.questions_us
    alone = replace(SMALL, events=1)
    one, ten = (demand(COSTS, replace(alone, tables=tables)) for tables in (1, 10))
    assert ten.questions_us == pytest.approx(one.questions_us, rel=0.01)


def test_tenants_are_fewer_cohorts_than_users() -> None:
    """What Postgres cannot tell apart is asked about once."""
    users = demand(COSTS, replace(SMALL, clients=10_000, events=100))
    tenants = demand(COSTS, replace(SMALL, clients=10_000, events=100, users_per_cohort=1_000))
    everybody = demand(COSTS, replace(SMALL, clients=10_000, events=100, users_per_cohort=1e9))
    assert everybody.questions_us < tenants.questions_us < users.questions_us


def test_an_event_is_for_no_more_clients_than_there_are() -> None:
    """A large audience of a small deployment is all of it."""
    assert demand(COSTS, replace(SMALL, audience=1e9)) == demand(
        COSTS, replace(SMALL, audience=1_000)
    )


def test_regions_have_a_wide_area_between_them() -> None:
    """One region has none; ticks alone leave out the content."""
    assert "wide area" not in {usage.part for usage in usages(COSTS, SMALL)}
    far = replace(SMALL, gateways=2, regions=2, events=1_000)
    ticks = replace(far, ticks_only=True)
    assert 0 < share(ticks, "wide area") < share(far, "wide area")
    assert share(ticks, "Redis, network") < share(far, "Redis, network")


def test_the_fullest_part_limits_the_rate() -> None:
    """At the rate that is said to be possible it is just full."""
    deployment = replace(SMALL, clients=100_000, gateways=20)
    events, limit = most_events(COSTS, deployment)
    assert share(replace(deployment, events=events), limit.part) == pytest.approx(FULL, rel=0.01)
    assert fullest(COSTS, replace(deployment, events=2 * events)).share > FULL


def test_a_part_that_is_full_without_changes_allows_none() -> None:
    """Too many sessions stay too many."""
    events, limit = most_events(COSTS, replace(SMALL, gateways=100))
    assert events < 1
    assert limit.part == "read servers, sessions"


def test_gateways_are_as_few_as_are_enough() -> None:
    """One less would be too full."""
    deployment = replace(SMALL, clients=1_000_000, events=100, regions=2)
    needed = needed_gateways(COSTS, deployment)
    assert needed is not None
    assert needed > 2
    enough = replace(deployment, gateways=needed)
    assert max(share(enough, part) for part in ("gateway, CPU", "gateway, memory")) <= FULL
    fewer = replace(deployment, gateways=needed - 1)
    assert max(share(fewer, part) for part in ("gateway, CPU", "gateway, memory")) > FULL


def test_some_rates_are_too_much_for_any_number_of_gateways() -> None:
    """What each gateway does for itself does not shrink."""
    assert needed_gateways(COSTS, replace(SMALL, events=100_000)) is None


def test_a_region_needs_a_gateway() -> None:
    """Even if one in all would do."""
    assert needed_gateways(COSTS, replace(SMALL, regions=3)) == 3


def test_read_servers_are_as_few_as_are_enough() -> None:
    """They answer all gateways of a region, and hold their sessions."""
    assert needed_read_servers(COSTS, SMALL) == 1
    many = replace(SMALL, gateways=200, events=100)
    needed = needed_read_servers(COSTS, many)
    parts = ("read servers, CPU", "read servers, sessions")
    assert max(share(replace(many, read_servers=needed), part) for part in parts) <= FULL
    assert max(share(replace(many, read_servers=needed - 1), part) for part in parts) > FULL


def test_there_is_advice_for_each_part() -> None:
    """And for nothing else."""
    parts = {usage.part for usage in usages(COSTS, replace(SMALL, gateways=2, regions=2))}
    assert parts == set(ADVICE)


@pytest.mark.parametrize("name", projects.PROJECTS)
def test_a_project_gets_what_it_needs(name: str) -> None:
    """Gateways and read servers are enough at 10,000 clients."""
    deployment = projects.sized(COSTS, projects.PROJECTS[name], 10_000, 1)
    assert fullest(COSTS, deployment).share <= FULL


def test_a_project_that_no_gateways_can_carry_is_shown_all_the_same() -> None:
    """It has a gateway for each 10,000 clients, which are too full."""
    deployment = projects.sized(COSTS, projects.PROJECTS["chat"], 10_000_000, 4)
    assert deployment.gateways == 1_000
    assert fullest(COSTS, deployment).share > FULL
