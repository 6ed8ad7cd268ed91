"""Server-Sent Events: events as bytes.

The format is that of the WHATWG HTML standard, section "Server-sent events". Every value written
here is one line: JSON text holds a raw line break only as white space, which is folded to blanks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.position import Position

HEARTBEAT: Final = b"event: heartbeat\ndata: {}\n\n"
"""Keeps a stream awake without moving the client's last event id."""

RESYNC: Final = b"event: resync\n"
"""How a frame begins that asks the client to fetch its tables again."""

Action = Literal["create", "update", "delete"]
ResyncReason = Literal["expired", "unknown", "overflow"]

_json = msgspec.json.Encoder()
_FOLD: Final = bytes.maketrans(b"\r\n", b"  ")
_POSITION: Final = re.compile(rb"^id: [^\n]*\n", re.MULTILINE)


def one_line(text: bytes) -> bytes:
    """Fold raw line breaks of a JSON text to blanks; they can only be white space in it."""
    return text.translate(_FOLD) if b"\n" in text or b"\r" in text else text


def display_name(table: str) -> str:
    """The name of a table as clients know it: bare in `public`, else with its schema."""
    return table.removeprefix("public.")


def data_frame(
    position: Position | None,
    action: Action,
    table: str,
    record: bytes,
    *,
    truncated: bool = False,
) -> bytes:
    """One change; `record` is JSON text. It has no event name, so that `onmessage` sees it.

    Without a position it leaves the client's last event id as it was.
    """
    return b'%bdata: {"action":"%b","table":%b,"record":%b%b}\n\n' % (
        _identity(position),
        action.encode(),
        _json.encode(display_name(table)),
        one_line(record),
        b',"truncated":true' if truncated else b"",
    )


def without_position(frames: bytes) -> bytes:
    """Return frames without their positions, so that the client's last event id stays as it was.

    No value begins a line, so nothing in a value is mistaken for a position.
    """
    return _POSITION.sub(b"", frames)


def heartbeat_frame(position: Position) -> bytes:
    """A sign of life that moves the client's last event id forward.

    It is a named event with data: Firefox ignores the id of a frame without data, and some client
    libraries pass an unnamed frame to `onmessage`.
    """
    return _control("heartbeat", {}, position)


def connected_frame(position: Position | None, client_id: str) -> bytes:
    """The first frame of a stream: from here on it is live.

    It has no position if a `resync` with one follows. Otherwise a client that is cut off between
    the two would continue after changes that it has missed, and was not asked to fetch.
    """
    return _control("connected", {"clientId": client_id}, position)


def resync_frame(position: Position | None, reason: ResyncReason, tables: Sequence[str]) -> bytes:
    """Something was missed that cannot be replayed: the client has to fetch its tables again."""
    names = [display_name(table) for table in tables]
    return _control("resync", {"reason": reason, "tables": names}, position)


def truncate_frame(position: Position, table: str) -> bytes:
    """A table was emptied by TRUNCATE."""
    return _control("truncate", {"table": display_name(table)}, position)


def error_frame(message: str) -> bytes:
    """The client's own policy or claims fail on a table."""
    return _control("error", {"message": message})


def expired_frame() -> bytes:
    """The token has expired."""
    return _control("expired", {"message": "invalid or expired token"})


def closing_frame(retry_milliseconds: int) -> bytes:
    """The gateway is stopping; the client reconnects after the delay."""
    return b"retry: %d\n%b" % (
        retry_milliseconds,
        _control("closing", {"message": "server is shutting down"}),
    )


def busy_frame(status: int, message: str, retry_milliseconds: int) -> bytes:
    """A refusal that passes: when to reconnect, the reason, and a line for people."""
    return b"retry: %d\n%b: this stream ends here; an EventSource comes back by itself\n\n" % (
        retry_milliseconds,
        _control("busy", {"code": status, "message": message}),
    )


def _control(name: str, data: dict[str, object], position: Position | None = None) -> bytes:
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), _identity(position), _json.encode(data))


def _identity(position: Position | None) -> bytes:
    return b"" if position is None else b"id: %b\n" % str(position).encode()
