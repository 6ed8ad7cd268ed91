"""Tracing by OpenTelemetry: spans are sent as OTLP over HTTP, by a thread of its own.

The queue before that thread has a bound (`OTEL_BSP_MAX_QUEUE_SIZE`, 2,048 spans): with a collector
that is away or slow, spans are dropped and nothing waits. The SDK reads the standard `OTEL_*`
variables. Its provider is not made the global one, so that no instrumentation of a library, which
might record URLs with tokens or SQL with values, sends anything through it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

import structlog
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import SettingsError
from shared.tracing import NO_SPAN, Attributes, Kind, Span, Tracing

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.trace import Span as OpenTelemetrySpan
    from opentelemetry.trace import Tracer

log = structlog.get_logger(__name__)

_CLOSE_SECONDS: Final = 1.0
_LOGGED_APART_SECONDS: Final = 60.0
_MOST_KINDS: Final = 100
_PROTOCOL: Final = "http/protobuf"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
}
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_NOTHING: Final[Attributes] = {}


def otel_tracing(service: str, *, ratio: float, region: str) -> Tracing:
    """Build tracing; raises `SettingsError` if an OTEL_* variable asks for what there is not."""
    _check_environment()
    _log_through_structlog()
    resource = Resource(
        {
            "service.name": service,
            "service.version": _version(),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            **({"cloud.region": region} if region else {}),
        }
    ).merge(OTELResourceDetector().detect())
    try:
        processor = BatchSpanProcessor(OTLPSpanExporter())
    except ValueError as error:
        raise SettingsError(f"OTEL_*: {error}") from None
    provider = TracerProvider(
        # None is what OTEL_TRACES_SAMPLER names.
        sampler=None if _set("OTEL_TRACES_SAMPLER") else ParentBased(TraceIdRatioBased(ratio)),
        resource=resource,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    return OtelTracing(provider, processor)


class OtelTracing:
    """Begins spans of a provider."""

    is_on = True

    def __init__(self, provider: TracerProvider, processor: SpanProcessor) -> None:
        self._processor = processor
        self.resource: Final = provider.resource.attributes
        """What describes this process in each span."""

        self._tracer = provider.get_tracer("ayb-realtime", _version())

    def span(
        self,
        name: str,
        attributes: Attributes = _NOTHING,
        *,
        trace: str = "",
        kind: Kind = "internal",
        began_ns: int | None = None,
        link: Span | None = None,
    ) -> Span:
        """Continue a trace by its `traceparent`, or begin one."""
        links = [Link(link.span.get_span_context())] if isinstance(link, OtelSpan) else []
        span = self._tracer.start_span(
            name,
            _PROPAGATOR.extract({"traceparent": trace}, Context()),
            _KINDS[kind],
            attributes,
            links,
            began_ns,
        )
        return OtelSpan(self._tracer, span)

    def child(
        self, name: str, attributes: Attributes = _NOTHING, *, began_ns: int | None = None
    ) -> Span:
        """Begin a step within the current span; without one, nothing is recorded."""
        current = get_current_span()
        if not current.is_recording():
            return NO_SPAN
        return OtelSpan(
            self._tracer,
            self._tracer.start_span(name, None, SpanKind.CLIENT, attributes, (), began_ns),
        )

    def close(self) -> None:
        """Send what is left, for a moment at most: the collector may be away."""
        closing = threading.Thread(
            target=self._processor.shutdown, name="traces close", daemon=True
        )
        closing.start()
        closing.join(_CLOSE_SECONDS)


class OtelSpan:
    """A span of the SDK; it is not recorded if its trace is not sampled."""

    def __init__(self, tracer: Tracer, span: OpenTelemetrySpan) -> None:
        self._tracer = tracer
        self.span: Final = span
        self._token: Token[Context] | None = None

    @property
    def is_recording(self) -> bool:
        """Whether its trace is sampled, and it has not ended."""
        return self.span.is_recording()

    @property
    def traceparent(self) -> str:
        """What continues the trace in another process, whether it is sampled or not."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(self.span, Context()))
        return carrier.get("traceparent", "")

    def child(
        self,
        name: str,
        attributes: Attributes = _NOTHING,
        *,
        kind: Kind = "internal",
        began_ns: int | None = None,
    ) -> Span:
        """Begin a step within this one."""
        if not self.span.get_span_context().trace_flags.sampled:
            return NO_SPAN
        context = set_span_in_context(self.span, Context())
        return OtelSpan(
            self._tracer,
            self._tracer.start_span(name, context, _KINDS[kind], attributes, (), began_ns),
        )

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self.span.set_attributes(attributes)

    def fail(self, reason: str) -> None:
        """Mark the step as failed."""
        self.span.set_status(Status(StatusCode.ERROR, reason))

    def end(self) -> None:
        """End the step; does nothing the second time."""
        if self.span.is_recording():
            self.span.end()

    def __enter__(self) -> Span:
        self._token = attach(set_span_in_context(self.span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        if self._token is not None:
            detach(self._token)
        if kind is not None:
            # The text of an error of Postgres may quote a row or a claim.
            self.fail("given up" if issubclass(kind, asyncio.CancelledError) else kind.__name__)
        self.end()


class SeldomHandler(logging.Handler):
    """Logs each kind of the SDK's messages once in a while: one comes with every dropped span.

    The kind is the text before its values are put in. Some texts have values in them already, so
    there is a bound to the kinds that are logged in that time.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._logged: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log a message, unless one of its kind, or many kinds, were logged lately."""
        now = time.monotonic()
        kind = str(record.msg)
        if kind not in self._logged and len(self._logged) >= _MOST_KINDS:
            since = now - _LOGGED_APART_SECONDS
            self._logged = {kind: at for kind, at in self._logged.items() if at > since}
            if len(self._logged) >= _MOST_KINDS:
                return
        if now - self._logged.get(kind, float("-inf")) >= _LOGGED_APART_SECONDS:
            self._logged[kind] = now
            log.warning("traces", reason=record.getMessage())


def _log_through_structlog() -> None:
    logger = logging.getLogger("opentelemetry")
    logger.propagate = False
    logger.handlers[:] = [SeldomHandler()]


def _check_environment() -> None:
    protocol = next(filter(None, map(_set, _PROTOCOLS)), _PROTOCOL)
    if protocol != _PROTOCOL:
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent by {_PROTOCOL} only, not {protocol}"
        )
    exporter = _set("OTEL_TRACES_EXPORTER")
    if exporter not in ("", "otlp"):
        raise SettingsError(f"OTEL_TRACES_EXPORTER: traces are sent by otlp only, not {exporter}")
    for name in _ENDPOINTS:
        if (url := _set(name)) and not url.lower().startswith(("http://", "https://")):
            raise SettingsError(f"{name}: must begin with http:// or https://")


def _set(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def _version() -> str:
    try:
        return version("ayb-realtime")
    except PackageNotFoundError:  # run from its sources
        return ""
