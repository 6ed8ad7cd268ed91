"""Series by table have a bound, and go with their table."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from gateway.metrics import GatewayMetrics
from gateway.visibility_metrics import KNOWN_STATES, MOST_TABLES, OTHER


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics()


def observe(metrics: GatewayMetrics, table: str) -> None:
    """Have everything counted that is counted by table."""
    seen = metrics.visibility
    seen.planned(table, "role", "joined", None)
    seen.planned(table, "role", "looped", "a reason")
    seen.planned(table, "role", "looped", "a reason")
    seen.asked(table, "looped", cohorts=2, events=3, seconds=0.5, rows=4)
    seen.failed(table, "looped", "22P02", 1)
    seen.differed(table, 1)
    seen.unchecked(table, "57014")


def series(metrics: GatewayMetrics, text: str) -> list[str]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return [line for line in lines if text in line]


def test_series_go_with_their_table(metrics: GatewayMetrics) -> None:
    """Nothing is left of a table that is gone; another table's series stay."""
    observe(metrics, "public.kept")
    before = series(metrics, 'table="public.kept"')
    size = len(generate_latest(metrics.registry))
    for number in range(100):
        observe(metrics, f"public.t{number}")
    assert len(metrics.visibility.tables) == 101
    metrics.visibility.forget([f"public.t{number}" for number in range(100)])
    assert metrics.visibility.tables == {"public.kept"}
    assert series(metrics, 'table="public.kept"') == before
    assert len(generate_latest(metrics.registry)) == size


def test_a_table_that_comes_back_is_counted_again(metrics: GatewayMetrics) -> None:
    """Its form is shown, and its next failure is logged."""
    observe(metrics, "public.t")
    metrics.visibility.forget(["public.t"])
    with capture_logs() as logs:
        observe(metrics, "public.t")
    assert series(metrics, 'ayb_visibility_form{form="looped",role="role",table="public.t"} 1.0')
    assert "a policy raises" in [line["event"] for line in logs]


def test_tables_beyond_the_bound_share_their_series(metrics: GatewayMetrics) -> None:
    """Thousands of tables make no more series than the bound."""
    for number in range(MOST_TABLES):
        observe(metrics, f"public.t{number}")
    size = len(series(metrics, "table="))
    for number in range(2_000):
        observe(metrics, f"other.t{number}")
    per_table = size // MOST_TABLES
    assert len(series(metrics, "table=")) == size + per_table
    assert series(
        metrics, f'ayb_visibility_questions_total{{form="looped",table="{OTHER}"}} 2000.0'
    )


def test_a_policy_cannot_make_up_labels(metrics: GatewayMetrics) -> None:
    """A policy may raise any SQLSTATE; the label is one of a closed set, the log has it all."""
    with capture_logs() as logs:
        for number in range(1_000):
            metrics.visibility.failed("public.t", "looped", f"A{number:04}", 1)
            metrics.visibility.unchecked("public.t", f"B{number:04}")
    assert len(series(metrics, f'sqlstate="{OTHER}"')) == 4  # two counters and their birth times
    assert logs[0]["sqlstate"] == "A0000"
    assert len(logs) == 2
    metrics.visibility.failed("public.t", "looped", "22P02", 1)
    assert "22P02" in KNOWN_STATES
    assert len(series(metrics, 'sqlstate="22P02"')) == 2


def test_ages_of_batches(metrics: GatewayMetrics) -> None:
    """Each batch is counted by its age and the form of its tables, none as negative."""
    metrics.observe_written("live", [("joined", 99.0), ("open", 101.0), ("joined", 99.5)], 100.0)
    metrics.observe_written("slow", [("looped", 90.0)], 100.0)
    metrics.observe_written("live", [], 100.0)
    counts, sums = series(metrics, "_count"), series(metrics, "_sum")
    assert 'ayb_delivery_seconds_count{form="joined",path="live"} 2.0' in counts
    assert 'ayb_delivery_seconds_sum{form="joined",path="live"} 1.5' in sums
    assert 'ayb_delivery_seconds_sum{form="open",path="live"} 0.0' in sums
    assert 'ayb_delivery_seconds_sum{form="looped",path="slow"} 10.0' in sums
