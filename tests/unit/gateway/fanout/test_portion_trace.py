"""How a gateway continues the traces of the batches of a portion."""

from __future__ import annotations

from gateway.fanout.portion_trace import MOST_SPANS, trace_portion
from shared.change import Batch, Change, Op, TableChanges
from shared.tracing import NO_SPAN, NO_TRACING
from tests.support.spans import KeptTracing


def batch(number: int, *, trace: str = "", is_empty: bool = False) -> Batch:
    """A batch with one change, or without any that is wanted here."""
    content = TableChanges("public.t", 1, ("id",), (Change(0, number, Op.CREATE),))
    return Batch(1, number, number, 0.0, () if is_empty else (content,), trace)


def trace(number: int, flags: str = "01") -> str:
    """The trace of a batch."""
    return f"00-{number:032x}-{number:016x}-{flags}"


def test_the_first_sampled_batch_has_the_steps() -> None:
    """The others of the portion link to it, each in its own trace; what is not sampled has none."""
    tracing = KeptTracing()
    batches = [
        batch(1, trace=trace(1), is_empty=True),
        batch(2, trace=trace(2, "00")),
        batch(3, trace=trace(3)),
        batch(4, trace=trace(4)),
        batch(5),
    ]
    with trace_portion(tracing, batches, "live") as span:
        assert span.is_recording
        tracing.child("write").end()
    assert tracing.child("after") is NO_SPAN
    write, *ended = tracing.exporter.get_finished_spans()
    assert [described["ayb.batch"] for described in tracing.attributes("deliver")] == [5, 4, 3]
    fifth, fourth, third = ended
    assert (fourth.context.trace_id, third.context.trace_id) == (4, 3)
    assert fifth.parent is None
    first = third.context.span_id
    assert [link.context.span_id for link in fourth.links] == [first]
    assert [link.context.span_id for link in fifth.links] == [first]
    assert write.parent is not None
    assert (write.name, write.parent.span_id) == ("write", first)


def test_a_portion_has_a_bounded_number_of_spans() -> None:
    """A gateway that catches up does not send one for each batch."""
    tracing = KeptTracing()
    with trace_portion(tracing, [batch(n) for n in range(500)], "slow"):
        pass
    assert len(tracing.tree) == MOST_SPANS


def test_nothing_that_is_wanted_here() -> None:
    """Batches without content for clients of this gateway leave no span."""
    tracing = KeptTracing()
    with trace_portion(tracing, [batch(1, trace=trace(1), is_empty=True)], "live") as span:
        assert span is NO_SPAN
    assert tracing.tree == []


def test_off() -> None:
    """Without tracing nothing is gathered."""
    with trace_portion(NO_TRACING, [batch(1, trace=trace(1))], "live") as span:
        assert span is NO_SPAN
