"""Traces: the way of a batch, from the relay's read to each gateway's write, as spans of one trace.

The relay begins the trace and decides whether it is sampled; the tick carries it to the gateways as
a W3C `traceparent`, and they hold to that decision. Spans name tables, roles, forms and counts,
never a value of a row, a claim or a token: an error is named by its type alone.

While tracing is off, `NO_TRACING` stands in, and nothing of OpenTelemetry's SDK is imported.
`shared.otel` is the other implementation, in the extra `otel`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

from shared.errors import SettingsError

if TYPE_CHECKING:
    from types import TracebackType

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]
Kind = Literal["internal", "producer", "consumer", "client"]

_NOTHING: Final[Attributes] = {}


class Span(Protocol):
    """One step of a trace. As a context manager it is the current one, and ends on exit."""

    @property
    def is_recording(self) -> bool:
        """Whether anything is recorded: attributes need not be gathered otherwise."""

    @property
    def traceparent(self) -> str:
        """What continues the trace in another process; empty while tracing is off."""

    def child(
        self,
        name: str,
        attributes: Attributes = _NOTHING,
        *,
        kind: Kind = "internal",
        began_ns: int | None = None,
    ) -> Span:
        """Begin a step within this one, now or at a time in Unix nanoseconds."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, reason: str) -> None:
        """Mark the step as failed; the reason holds nothing that came from a row or a client."""

    def end(self) -> None:
        """End the step; does nothing the second time."""

    def __enter__(self) -> Span: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class Tracing(Protocol):
    """Begins spans."""

    is_on: bool
    """Whether any span may be recorded."""

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

    def child(
        self, name: str, attributes: Attributes = _NOTHING, *, began_ns: int | None = None
    ) -> Span:
        """Begin a step within the current span; without one, nothing is recorded."""

    def close(self) -> None:
        """Send what is left, for a moment at most."""


class NoSpan:
    """Records nothing."""

    is_recording = False
    traceparent = ""

    def child(
        self,
        name: str,  # noqa: ARG002
        attributes: Attributes = _NOTHING,  # noqa: ARG002
        *,
        kind: Kind = "internal",  # noqa: ARG002
        began_ns: int | None = None,  # noqa: ARG002
    ) -> Span:
        """Return itself."""
        return self

    def note(self, attributes: Attributes) -> None:
        """Do nothing."""

    def fail(self, reason: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        pass


NO_SPAN: Final = NoSpan()


class NoTracing:
    """Traces nothing."""

    is_on = False

    def span(
        self,
        name: str,  # noqa: ARG002
        attributes: Attributes = _NOTHING,  # noqa: ARG002
        *,
        trace: str = "",  # noqa: ARG002
        kind: Kind = "internal",  # noqa: ARG002
        began_ns: int | None = None,  # noqa: ARG002
        link: Span | None = None,  # noqa: ARG002
    ) -> Span:
        """Return a span that records nothing."""
        return NO_SPAN

    def child(
        self,
        name: str,  # noqa: ARG002
        attributes: Attributes = _NOTHING,  # noqa: ARG002
        *,
        began_ns: int | None = None,  # noqa: ARG002
    ) -> Span:
        """Return a span that records nothing."""
        return NO_SPAN

    def close(self) -> None:
        """Do nothing."""


NO_TRACING: Final = NoTracing()


def open_tracing(service: str, *, ratio: float, region: str = "") -> Tracing:
    """Trace a share of the batches as OTEL_* says; `service` is the name without OTEL_SERVICE_NAME.

    Raises `SettingsError` if the extra is not installed, or OTEL_* asks for what there is not.
    """
    if not ratio or _says("OTEL_SDK_DISABLED", "true") or _says("OTEL_TRACES_EXPORTER", "none"):
        return NO_TRACING
    try:
        from shared.otel import otel_tracing  # noqa: PLC0415 (an extra; it is not imported while off)
    except ImportError as error:
        raise SettingsError(
            "AYB_TRACES_RATIO: traces need the extra `otel`: pip install 'ayb-realtime[otel]' "
            f"({error})"
        ) from None
    return otel_tracing(service, ratio=ratio, region=region)


def _says(variable: str, value: str) -> bool:
    return os.environ.get(variable, "").strip().lower() == value
