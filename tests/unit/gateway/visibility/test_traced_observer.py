"""Questions in the trace of the portion that they are asked for."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.visibility.traced_observer import TracedObserver
from gateway.visibility_metrics import VisibilityMetrics
from tests.support.spans import KeptTracing


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where the observer behind it counts."""
    return CollectorRegistry()


def test_questions_are_counted_and_traced(registry: CollectorRegistry) -> None:
    """Each form that was asked has a span of its duration, with counts; an error, its SQLSTATE."""
    tracing = KeptTracing()
    observer = TracedObserver(VisibilityMetrics(registry), tracing)
    with tracing.span("visibility"):
        observer.planned("public.t", "app", "joined", None)
        observer.failed("public.t", "joined", "22P02", 3)
        observer.asked("public.t", "looped", cohorts=3, events=2, seconds=1.5, rows=4)
        observer.differed("public.t", 1)
        observer.unchecked("public.t", "57014")
    failed, asked, _ = tracing.exporter.get_finished_spans()
    assert (failed.name, failed.status.description) == ("ask joined", "SQLSTATE 22P02")
    assert asked.name == "ask looped"
    assert tracing.attributes("ask looped")[0]["ayb.cohorts"] == 3
    assert asked.start_time is not None
    assert asked.end_time is not None
    assert asked.end_time - asked.start_time >= 1_500_000_000
    page = generate_latest(registry).decode()
    for counted in (
        'ayb_visibility_questions_total{form="looped",table="public.t"} 1.0',
        'ayb_visibility_errors_total{form="joined",sqlstate="22P02",table="public.t"} 3.0',
        'ayb_visibility_differences_total{table="public.t"} 1.0',
        'ayb_visibility_unchecked_total{sqlstate="57014",table="public.t"} 1.0',
        'ayb_visibility_form{form="joined",role="app",table="public.t"} 1.0',
    ):
        assert counted in page
