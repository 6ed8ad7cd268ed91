"""The spans of a portion of batches: how each goes on in this gateway."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Literal

from shared.tracing import NO_SPAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from shared.change import Batch
    from shared.tracing import Attributes, Span, Tracing

MOST_SPANS: Final = 50
"""So many batches of a portion continue their traces here."""

Path = Literal["live", "slow"]


def trace_portion(
    tracing: Tracing, batches: Sequence[Batch], path: Path
) -> AbstractContextManager[Span]:
    """Continue the traces of batches that have content for clients of this gateway.

    Waiting batches are judged and written together. The steps are within the span of the first
    sampled batch, which is the current one meanwhile; the others have a span that links to it.
    """
    return _spans(tracing, batches, path) if tracing.is_on else NO_SPAN


@contextlib.contextmanager
def _spans(tracing: Tracing, batches: Sequence[Batch], path: Path) -> Iterator[Span]:
    with contextlib.ExitStack() as spans:
        first: Span = NO_SPAN
        for batch in [batch for batch in batches if batch.tables][:MOST_SPANS]:
            link = first if first.is_recording else None
            span = tracing.span(
                "deliver", _described(batch, path), trace=batch.trace, kind="consumer", link=link
            )
            if link is None and span.is_recording:
                first = spans.enter_context(span)
            else:
                spans.callback(span.end)
        yield first


def _described(batch: Batch, path: Path) -> Attributes:
    return {
        "ayb.batch": batch.id,
        "ayb.epoch": batch.epoch,
        "ayb.path": path,
        "ayb.changes": sum(len(content.changes) for content in batch.tables),
    }
