"""The pure parts of the Python client."""

from __future__ import annotations

import base64
import itertools
import json

import pytest
from ayb_realtime.frames import Frame, FrameReader
from ayb_realtime.items import Change, Resync, StreamError, Truncate
from ayb_realtime.stream import _Decoder
from ayb_realtime.tail import line
from ayb_realtime.tokens import seconds_until_renewal
from hypothesis import given
from hypothesis import strategies as st

STREAM = (
    b"\xef\xbb\xbfretry: 4711\r\nevent: busy\r\ndata: {}\r\n\r\n"
    b": a comment\n\n"
    b"id: 7-1\ndata: one\ndata:two\ndata\n\n"
    b"event: lost\nid: 8\n\n"
    b"id: a\0b\rdata:  x\rother: y\r\r"
    b"retry: soon\nid: 9\ndata: Gr\xc3\xb6\xc3\x9fe\n\n"
    b"data: the end never comes"
)
FRAMES = [
    Frame("busy", "{}", None, 4711),
    Frame("message", "one\ntwo\n", "7-1", None),
    Frame("message", " x", None, None),
    Frame("message", "Größe", "9", None),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_frames_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    """As the HTML standard says, whatever pieces the network makes."""
    reader, ends = FrameReader(), sorted({0, len(STREAM), *cuts})
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(ends)]
    assert [frame for piece in pieces for frame in reader.push(piece)] == FRAMES


def test_whoever_stops_between_the_halves_of_a_changed_key_gets_both_again() -> None:
    """The position of the first half is the one before: after its own, the second would be lost."""
    wire = (
        b"event: connected\nid: 5\ndata: {}\n\n"
        b'data: {"action":"delete","table":"t","record":{"id":1}}\n\n'
        b'id: 7-0\ndata: {"action":"create","table":"t","record":{"id":2}}\n\n'
    )
    decoder = _Decoder(float)
    items = [item for frame in FrameReader().push(wire) for item in decoder.items(frame)]
    assert items == [
        Change("delete", "t", {"id": 1}, "5"),
        Change("create", "t", {"id": 2}, "7-0"),
    ]


def jwt(claims: object) -> str:
    """A token whose signature nobody checks."""
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{part}.x"


@pytest.mark.parametrize(
    ("token", "seconds"),
    [
        (jwt({"exp": 1_000}), 870.0),
        (jwt({"exp": 140}), 20.0),
        (jwt({"exp": 90}), None),
        (jwt({}), None),
        (jwt([]), None),
        ("ayb_0123", None),
        ("a.b.c", None),
    ],
)
def test_when_a_token_is_replaced(token: str, seconds: float | None) -> None:
    """Half a minute before its end, or half its time; never where it says nothing."""
    assert seconds_until_renewal(token, 100) == seconds


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Change("create", "t", {"id": 1, "a": "ö"}, "7-0"), 'create t {"id": 1, "a": "ö"}'),
        (Change("update", "t", {"id": 1}, "7", True), 'update t {"id": 1} (too large: key only)'),
        (Resync("expired", ("a", "b"), None),
         "resync a,b: changes were missed (expired), fetch again"),
        (Truncate("posts", "8"), "truncate posts"),
        (StreamError("posts: denied", None), "error posts: denied"),
    ],
)  # fmt: skip
def test_lines_for_people(item, text) -> None:
    """An item is one line, in colour only where that is asked for."""
    assert line(item, with_colour=False) == text
    assert "\x1b[" in line(item, with_colour=True)
