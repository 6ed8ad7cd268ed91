"""The trace of a batch, as far as the relay: read, recorded, published to each Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.tracing import NO_SPAN

if TYPE_CHECKING:
    from shared.change import Batch
    from shared.tracing import Span, Tracing

MOST_TABLES: Final = 20
"""So many tables of a batch are named."""


def begin_trace(tracing: Tracing, batch: Batch, began_ns: int) -> Span:
    """Begin the trace of a batch that has just been read and recorded, since `began_ns`.

    An idle relay reads often and finds nothing: such reads are no traces.
    """
    if not tracing.is_on:
        return NO_SPAN
    root = tracing.span(
        "batch",
        {
            "ayb.batch": batch.id,
            "ayb.epoch": batch.epoch,
            "ayb.recorded_at": batch.at,
            "ayb.tables": [content.table for content in batch.tables[:MOST_TABLES]],
            "ayb.changes": sum(len(content.changes) for content in batch.tables),
        },
        began_ns=began_ns,
    )
    root.child(
        "read and record", {"db.system.name": "postgresql"}, kind="client", began_ns=began_ns
    ).end()
    return root
