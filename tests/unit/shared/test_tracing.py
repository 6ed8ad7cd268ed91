"""Traces: off, on, and what OTEL_* says."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from unittest.mock import Mock

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from shared.errors import SettingsError
from shared.otel import OtelTracing, SeldomHandler
from shared.tracing import NO_SPAN, NO_TRACING, open_tracing
from tests.support.otlp import Collector
from tests.support.spans import KeptTracing
from tests.support.stack import PROJECT

TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
UNSAMPLED = TRACE[:-1] + "0"


def test_without_traces_every_span_is_the_same_nothing() -> None:
    """While tracing is off nothing is made, whatever is asked for, and errors pass through."""
    assert not NO_TRACING.is_on
    for span in (
        NO_TRACING.span("a", trace=TRACE),
        NO_TRACING.child("a"),
        NO_SPAN.child("a", kind="producer", began_ns=1),
    ):
        assert span is NO_SPAN
        assert (span.is_recording, span.traceparent) == (False, "")
    NO_SPAN.note({"a": 1})
    NO_SPAN.fail("no")
    NO_SPAN.end()
    NO_TRACING.close()
    with NO_SPAN as span:
        assert span is NO_SPAN
    with pytest.raises(ValueError, match="of the block"), NO_SPAN:
        raise ValueError("of the block")


@pytest.mark.parametrize(
    ("ratio", "variables"),
    [
        (0.0, {}),
        (1.0, {"OTEL_SDK_DISABLED": "True"}),
        (1.0, {"OTEL_TRACES_EXPORTER": "none"}),
    ],
)
def test_when_traces_are_off(
    monkeypatch: pytest.MonkeyPatch, ratio: float, variables: dict[str, str]
) -> None:
    """A ratio of 0 is off, and so are the standard switches."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert open_tracing("ayb-relay", ratio=ratio) is NO_TRACING


def test_the_sdk_is_not_imported_while_traces_are_off() -> None:
    """Neither program loads what makes and sends spans unless it traces.

    The API alone is there anyway: FastAPI imports it.
    """
    program = (
        "import sys, gateway.commands, relay.commands; from shared.tracing import open_tracing; "
        "open_tracing('a', ratio=0); "
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk.trace', "
        "'opentelemetry.exporter', 'google.protobuf', 'shared.otel'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "shared.otel", None)
    with pytest.raises(SettingsError, match=r"AYB_TRACES_RATIO: .*pip install 'ayb-realtime\[otel"):
        open_tracing("ayb-relay", ratio=0.1)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "by http/protobuf only, not grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "by http/protobuf only, not http/json"),
        ("OTEL_TRACES_EXPORTER", "console", "by otlp only, not console"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "must begin with http:// or https://"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "OTEL_.*max_queue_size must be"),
    ],
)
def test_what_there_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    """A variable that asks for what there is not is named."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=text):
        open_tracing("ayb-relay", ratio=0.1)


def test_a_trace_goes_on_in_another_process() -> None:
    """A span continues a trace by its text, and gives the text that continues itself."""
    tracing = KeptTracing()
    with tracing.span("a", {"n": 1}, trace=TRACE, kind="consumer") as span:
        version, trace, own, flags = span.traceparent.split("-")
        assert (version, trace) == ("00", TRACE.split("-")[1])
        assert own != TRACE.split("-")[2]
        assert int(flags, 16) & 1
        tracing.child("b", began_ns=5).end()
    span.end()
    assert tracing.tree == [("b", "a"), ("a", "elsewhere")]
    assert tracing.attributes("a") == [{"n": 1}]
    assert tracing.exporter.get_finished_spans()[0].start_time == 5


@pytest.mark.parametrize("trace", ["", "of no form", TRACE[:-5], "00-" + "0" * 32 + TRACE[35:]])
def test_what_is_no_trace_begins_one(trace: str) -> None:
    """A text of another form is none."""
    tracing = KeptTracing()
    tracing.span("a", trace=trace).end()
    assert tracing.tree == [("a", None)]


def test_the_decision_is_the_first_ones() -> None:
    """What was not sampled is not recorded here, and what was is, whatever the ratio."""
    never, always = KeptTracing(ALWAYS_OFF), KeptTracing()
    with always.span("a", trace=UNSAMPLED) as span:
        assert not span.is_recording
        assert not _is_sampled(span.traceparent)
        assert span.child("b") is NO_SPAN
        assert always.child("b") is NO_SPAN
    never.span("a", trace=TRACE).end()
    never.span("b").end()
    assert (always.tree, never.tree) == ([], [("a", "elsewhere")])


def _is_sampled(trace: str) -> bool:
    return bool(int(trace[-2:], 16) & 1)


def test_without_a_current_span_there_is_no_child() -> None:
    """A step that belongs to no trace begins none."""
    tracing = KeptTracing()
    assert tracing.child("a") is NO_SPAN


def test_an_error_is_named_by_its_type() -> None:
    """Its text may hold a value of a row; a question that is given up says so."""
    tracing = KeptTracing()
    with pytest.raises(ValueError, match="secret"), tracing.span("a"):
        raise ValueError("secret")
    with pytest.raises(asyncio.CancelledError), tracing.span("b"):
        raise asyncio.CancelledError
    first, second = tracing.exporter.get_finished_spans()
    assert (first.status.description, second.status.description) == ("ValueError", "given up")
    assert first.events == second.events == ()


def test_a_link() -> None:
    """A span may link to another; to one that records nothing it does not."""
    tracing = KeptTracing()
    first = tracing.span("a")
    tracing.span("b", link=first).end()
    tracing.span("c", link=NO_SPAN).end()
    second, third = tracing.exporter.get_finished_spans()
    assert first.traceparent.split("-")[2] == f"{second.links[0].context.span_id:016x}"
    assert third.links == ()


def test_tracing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard variables name the service and the collector, and choose the sampler."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=realtime")
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing = open_tracing("ayb-gateway", ratio=0.000001, region="eu")
        assert isinstance(tracing, OtelTracing)
        with tracing.span("a") as span:
            assert span.is_recording
        tracing.close()
        [received] = collector.spans
    assert (received.name, received.service) == ("a", "edge")
    assert collector.headers[0]["x-team"] == "realtime"
    assert tracing.resource["cloud.region"] == "eu"
    assert tracing.resource["deployment.environment"] == "test"


def test_messages_of_the_sdk_are_logged_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind once a minute, and a bounded number of kinds, also where texts have values in them;
    memory has that bound as well.
    """
    now = 100.0
    log = Mock()
    monkeypatch.setattr("shared.otel.time.monotonic", lambda: now)
    monkeypatch.setattr("shared.otel.log", log)
    handler = SeldomHandler()

    def logged(*messages: tuple[str, str]) -> int:
        log.reset_mock()
        for text, value in messages:
            handler.emit(logging.LogRecord("o", logging.WARNING, "", 1, text, (value,), None))
        return len(log.warning.mock_calls)

    dropped = [("dropped %s", f"{n}") for n in range(10)]
    assert logged(*dropped) == 1
    log.warning.assert_called_with("traces", reason="dropped 0")
    assert logged(*((f"{n} of %s", "") for n in range(1_000))) == 99
    assert logged(*dropped, ("another %s", "")) == 0
    now = 161.0
    assert logged(*dropped, ("another %s", "")) == 2
    assert logged(*((f"{n} of %s", "") for n in range(500, 1_000))) == 98
