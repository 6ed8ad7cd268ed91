"""The relay's part of a trace."""

from __future__ import annotations

from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from relay.traces import MOST_TABLES, begin_trace
from shared.change import Batch, Change, Op, TableChanges
from shared.tracing import NO_SPAN, NO_TRACING
from tests.support.spans import KeptTracing

BATCH = Batch(
    2, 7, 77, 1.5,
    tuple(
        TableChanges(f"public.t{n}", n, ("id",), (Change(n, n, Op.CREATE),))
        for n in range(MOST_TABLES + 5)
    ),
)  # fmt: skip


def test_a_batch_is_described_by_numbers_and_names() -> None:
    """The trace begins when the read began; a bounded number of tables is named."""
    tracing = KeptTracing()
    with begin_trace(tracing, BATCH, 1_000) as root:
        assert root.is_recording
    assert tracing.tree == [("read and record", "batch"), ("batch", None)]
    [described] = tracing.attributes("batch")
    assert described["ayb.changes"] == MOST_TABLES + 5
    assert described["ayb.tables"] == tuple(f"public.t{n}" for n in range(MOST_TABLES))
    assert (described["ayb.epoch"], described["ayb.batch"]) == (2, 7)
    assert {span.start_time for span in tracing.exporter.get_finished_spans()} == {1_000}


def test_a_batch_that_is_not_sampled_still_says_so() -> None:
    """The decision goes to the gateways, so that none begins a trace of its own."""
    tracing = KeptTracing(ALWAYS_OFF)
    flags = begin_trace(tracing, BATCH, 1).traceparent[-2:]
    assert int(flags, 16) & 1 == 0
    assert tracing.tree == []


def test_off() -> None:
    """Without tracing there is nothing."""
    assert begin_trace(NO_TRACING, BATCH, 1) is NO_SPAN
