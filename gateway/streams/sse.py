"""Server-Sent Events: from events to bytes.

The format is that of the WHATWG HTML standard, section "Server-sent events". Every value written
here is one line: JSON text holds a raw line break only as white space, which is folded to blanks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.position import Position

PING: Final = b": ping\n\n"
RESYNC: Final = b"event: resync\n"
"""How the frame begins that tells to fetch afresh."""

Action = Literal["create", "update", "delete"]
ResyncReason = Literal["expired", "unknown", "overflow"]

_json = msgspec.json.Encoder()
_FOLD: Final = bytes.maketrans(b"\r\n", b"  ")


def one_line(text: bytes) -> bytes:
    """Fold raw line breaks of a JSON text to blanks; they can only be white space in it."""
    return text.translate(_FOLD) if b"\n" in text or b"\r" in text else text


def display_name(table: str) -> str:
    """Name a table as clients know it: bare in `public`, else with its schema."""
    return table.removeprefix("public.")


def data_frame(
    position: Position, action: Action, table: str, record: bytes, *, truncated: bool = False
) -> bytes:
    """Tell one change; `record` is JSON text. It has no event name, so that `onmessage` sees it."""
    return b'id: %b\ndata: {"action":"%b","table":%b,"record":%b%b}\n\n' % (
        str(position).encode(),
        action.encode(),
        _json.encode(display_name(table)),
        one_line(record),
        b',"truncated":true' if truncated else b"",
    )


def position_frame(position: Position) -> bytes:
    """Move the client's last event id forward without an event, and keep proxies awake."""
    return b"id: %b\n\n" % str(position).encode()


def connected_frame(position: Position, client_id: str) -> bytes:
    """Open a stream: from here on it is live."""
    return _control("connected", {"clientId": client_id}, position)


def resync_frame(position: Position | None, reason: ResyncReason, tables: Sequence[str]) -> bytes:
    """Tell that something was missed for good: the client fetches afresh, the stream goes on."""
    names = [display_name(table) for table in tables]
    return _control("resync", {"reason": reason, "tables": names}, position)


def truncate_frame(position: Position, table: str) -> bytes:
    """Tell that a table was emptied by TRUNCATE."""
    return _control("truncate", {"table": display_name(table)}, position)


def error_frame(message: str) -> bytes:
    """Tell a client that its own policy or claims fail on a table."""
    return _control("error", {"message": message})


def expired_frame() -> bytes:
    """Tell that the token's time is over."""
    return _control("expired", {"message": "invalid or expired token"})


def closing_frame(retry_milliseconds: int) -> bytes:
    """Tell that the server drains, and when to come back."""
    return b"retry: %d\n%b" % (
        retry_milliseconds,
        _control("closing", {"message": "server is shutting down"}),
    )


def busy_frame(status: int, message: str, retry_milliseconds: int) -> bytes:
    """Refuse for a passing reason: when to come back, the reason, and a line for people."""
    return b"retry: %d\n%b: this stream ends here; an EventSource comes back by itself\n\n" % (
        retry_milliseconds,
        _control("busy", {"code": status, "message": message}),
    )


def _control(name: str, data: dict[str, object], position: Position | None = None) -> bytes:
    identity = b"" if position is None else b"id: %b\n" % str(position).encode()
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), identity, _json.encode(data))
