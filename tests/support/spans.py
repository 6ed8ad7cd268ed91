"""Tracing whose spans stay in the process, for the tests of single parts."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler

from shared.otel import OtelTracing


class KeptTracing(OtelTracing):
    """Records by a sampler, everything by default; the spans are read after they have ended."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self.exporter)
        provider = TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)
        provider.add_span_processor(processor)
        super().__init__(provider, processor)

    @property
    def tree(self) -> list[tuple[str, str | None]]:
        """The ended spans in the order of their ends, each with the name of its parent here."""
        ended = self.exporter.get_finished_spans()
        names = {span.context.span_id: span.name for span in ended if span.context is not None}
        return [
            (
                span.name,
                None if span.parent is None else names.get(span.parent.span_id, "elsewhere"),
            )
            for span in ended
        ]

    def attributes(self, name: str) -> list[dict[str, object]]:
        """The attributes of the ended spans of a name."""
        return [
            dict(span.attributes or {})
            for span in self.exporter.get_finished_spans()
            if span.name == name
        ]
