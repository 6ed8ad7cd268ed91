"""How refused stream requests are answered."""

from __future__ import annotations

import json

import pytest
from starlette.datastructures import Headers

from gateway.errors import (
    ConnectionLimitError,
    GatewayError,
    InvalidTokenError,
    ServiceUnavailableError,
    ShuttingDownError,
    UnknownTableRequestError,
)
from gateway.web.refusal import accepts_event_stream, refusal
from tests.support.sse_client import EventStreamParser

EVENT_SOURCE = Headers({"Accept": "text/event-stream"})


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; q=0.5", True),
        ("application/json, text/event-stream;charset=utf-8", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q=0.000", False),
        ("text/event-stream; q=0.001", True),
        ("*/*", False),
        ("text/*", False),
        ("text/event-streams", False),
        ("", False),
        (",;,", False),
    ],
)
def test_who_asks_for_a_stream(accept: str, expected: bool) -> None:
    """Only a request that names the media type counts as an EventSource."""
    assert accepts_event_stream(Headers({"Accept": accept})) is expected
    assert (
        accepts_event_stream(Headers(raw=[(b"accept", b"x/y"), (b"accept", accept.encode())]))
        is expected
    )


@pytest.mark.parametrize(
    "error", [ShuttingDownError(), ServiceUnavailableError(), ConnectionLimitError()]
)
def test_what_passes_is_a_stream_that_ends(error: GatewayError) -> None:
    """An EventSource gets 200, when to come back, and why; the frame is whole."""
    response = refusal(error, EVENT_SOURCE)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert "retry-after" not in response.headers
    parser = EventStreamParser(last_event_id="7")
    (event,) = parser.feed(bytes(response.body))
    assert event.type == "busy"
    assert json.loads(event.data) == {"code": error.status, "message": error.message}
    assert event.id == "7", "the client's position stays"
    assert len(parser.comments) == 1
    assert parser.retry_milliseconds is not None
    assert 2_000 <= parser.retry_milliseconds < 11_000
    assert bytes(response.body).endswith(b"\n\n")


def test_clients_refused_together_come_back_apart() -> None:
    """The reconnection times are spread over milliseconds."""
    bodies = {bytes(refusal(ShuttingDownError(), EVENT_SOURCE).body) for _ in range(300)}
    assert len(bodies) > 200


@pytest.mark.parametrize("error", [InvalidTokenError(), UnknownTableRequestError("x")])
def test_what_stays_keeps_its_status(error: GatewayError) -> None:
    """A refusal that would come again is final for an EventSource too."""
    assert refusal(error, EVENT_SOURCE).status_code == error.status


def test_others_get_the_status() -> None:
    """curl and balancers see the status, and when to come back."""
    response = refusal(ShuttingDownError(), Headers({"Accept": "*/*"}))
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["retry-after"]) >= 2
