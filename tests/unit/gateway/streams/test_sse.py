from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.streams import sse
from shared.position import Position


def fields(frame: bytes) -> list[tuple[str, str]]:
    """Split a frame as the WHATWG algorithm does: at CR LF, LF or CR."""
    text = frame.decode("utf-8")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert lines[-2:] == ["", ""]
    return [tuple(line.split(": ", 1)) for line in lines[:-2]]  # type: ignore[misc]


def test_a_data_frame_is_the_protocols_example() -> None:
    """A change is one `id` and one `data` line, keys in the order action, table, record."""
    record = b'{"id":42,"title":"New Post","published":true,"created_at":"2026-02-07T22:00:00Z"}'
    assert sse.data_frame(Position(1, 813, 0), "create", "public.posts", record) == (
        b'id: 813-0\ndata: {"action":"create","table":"posts","record":' + record + b"}\n\n"
    )


@pytest.mark.parametrize(
    ("table", "shown"),
    [("public.posts", "posts"), ("my-app.Orders", "my-app.Orders"), ('public.a"b', 'a"b')],
)
def test_the_table_is_bare_in_public_only(table: str, shown: str) -> None:
    """A table is named bare in `public`, else with its schema."""
    frame = sse.data_frame(Position(1, 1, 0), "delete", table, b"{}")
    assert json.loads(dict(fields(frame))["data"])["table"] == shown


def test_a_truncated_record_says_so_after_the_record() -> None:
    """`"truncated":true` stands behind the record."""
    frame = sse.data_frame(Position(1, 1, 2), "update", "public.t", b'{"id":1}', truncated=True)
    assert frame.endswith(b'"record":{"id":1},"truncated":true}\n\n')


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_no_value_makes_a_second_line(row: dict[str, object]) -> None:
    """Whatever a row holds, its frame is one id and one data field (CASE 3)."""
    record = json.dumps(row, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    frame = sse.data_frame(Position(1, 7, 3), "update", "public.t\r\ndata: x", record)
    found = fields(frame)
    assert [name for name, _ in found] == ["id", "data"]
    assert json.loads(found[1][1])["record"] == row


def test_frames_without_their_positions_are_the_same_otherwise() -> None:
    """Only the ids go, of each of several frames; what looks like one in a value stays."""
    here = Position(1, 813, 0)
    frames = [
        sse.data_frame(here, "create", "public.posts", b'{"a":"id: 1-0"}'),
        sse.data_frame(None, "delete", "public.posts", b'{"id": 1}'),
        sse.truncate_frame(here, "public.posts"),
    ]
    without = sse.without_position(b"".join(frames))
    assert without == b"".join(frames).replace(b"id: 813-0\n", b"")
    assert without.count(b"id: ") == 1  # the one in the value


def test_control_frames_have_names_that_onmessage_never_sees() -> None:
    """Every control frame is a named event."""
    here = Position(2, 5)
    frames = [
        sse.connected_frame(here, "c1"),
        sse.resync_frame(here, "expired", ["public.posts", "app.t"]),
        sse.truncate_frame(here, "public.posts"),
        sse.error_frame("posts: no"),
        sse.expired_frame(),
    ]
    assert [fields(frame)[0] for frame in frames] == [
        ("event", "connected"),
        ("event", "resync"),
        ("event", "truncate"),
        ("event", "error"),
        ("event", "expired"),
    ]
    assert dict(fields(frames[0])) == {
        "event": "connected",
        "id": "2.5",
        "data": '{"clientId":"c1"}',
    }
    assert dict(fields(frames[1]))["data"] == '{"reason":"expired","tables":["posts","app.t"]}'


def test_closing_tells_when_to_come_back() -> None:
    """`closing` comes with the reconnection time in milliseconds."""
    assert fields(sse.closing_frame(1234))[:2] == [("retry", "1234"), ("event", "closing")]


def test_a_heartbeat_is_a_named_event_with_data() -> None:
    """A heartbeat moves the client's position, or leaves it; `onmessage` never sees it."""
    frame = sse.heartbeat_frame(Position(1, 812))
    assert frame == b"event: heartbeat\nid: 812\ndata: {}\n\n"
    assert sse.HEARTBEAT == b"event: heartbeat\ndata: {}\n\n"
