"""How a stream request that is refused is answered.

By the HTML standard (section 9.2, "Server-sent events") an `EventSource` gives up for good on any
answer but 200 with `text/event-stream`. So a client that asks for `text/event-stream` gets a
passing refusal in that form: it sets a reconnection time, names the reason in a `busy` event, and
ends. The client then reconnects by itself, with the position that it had. Others (curl, load
balancers, plain HTTP clients) get the status with `Retry-After`, and permanent refusals keep their
status.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from gateway.streams import sse
from gateway.web.error_responses import error_response

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from starlette.datastructures import Headers

    from gateway.errors import GatewayError

EVENT_STREAM = "text/event-stream"


def refusal(error: GatewayError, headers: Headers) -> Response:
    """Build the answer to a stream request with these headers."""
    if error.retry_after is None or not accepts_event_stream(headers):
        return error_response(error)
    # A fraction of a second of its own, so that clients refused together come back apart.
    retry_milliseconds = error.retry_after * 1_000 + secrets.randbelow(1_000)
    return Response(
        sse.busy_frame(error.status, error.message, retry_milliseconds),
        headers={"Content-Type": EVENT_STREAM, **STREAM_HEADERS},
    )


STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""What keeps proxies from storing, compressing or buffering a stream."""


def stream_head(further: Mapping[str, str]) -> MutableMapping[str, Any]:
    """Build the message that begins a stream's response; `further` are more headers."""
    answer = {"Content-Type": EVENT_STREAM, **STREAM_HEADERS, **further}
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(name.lower().encode(), value.encode()) for name, value in answer.items()],
    }


def accepts_event_stream(headers: Headers) -> bool:
    """Whether `Accept` names `text/event-stream` itself, not only a range that includes it."""
    for value in headers.getlist("accept"):
        for media_range in value.split(","):
            kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
            if kind == EVENT_STREAM and not any(map(_is_zero_weight, parameters)):
                return True
    return False


def _is_zero_weight(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.")
