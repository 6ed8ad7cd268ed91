"""The tests' own reader of event streams, against the standard's examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sse_client import Event, EventStreamParser

# Examples of the HTML standard, section 9.2.6, and its rules one by one.
CASES = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("message", "YHOO\n+2\n10", "")]),
    (
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
            b"data:  third event\n\n"
        ),
        [
            Event("message", "first event", "1"),
            Event("message", "second event", ""),
            Event("message", " third event", ""),
        ],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [Event("message", "", ""), Event("message", "\n", "")]),
    (b"data:test\n\ndata: test\n\n", [Event("message", "test", "")] * 2),
    (
        b"\xef\xbb\xbfevent: add\r\ndata: 1\r\rdata: 2\n\n",
        [Event("add", "1", ""), Event("message", "2", "")],
    ),
    (b"id: 7\n\ndata: x\n\n", [Event("message", "x", "7")]),
    (b"id: a\0b\ndata: x\n\n", [Event("message", "x", "")]),
    (b"event: gone\n\ndata: x\n\n", [Event("message", "x", "")]),
    ("data: é\u2028\n\n".encode(), [Event("message", "é\u2028", "")]),
]  # fmt: skip


@pytest.mark.parametrize(("stream", "events"), CASES)
@given(data=st.data())
def test_reads_as_the_standard_says(stream, events, data):
    """However the stream is cut into chunks, the standard's events come out."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    parser = EventStreamParser()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += parser.feed(stream[start:end])
    assert got == events


def test_a_position_without_data_moves_on():
    """An id without data changes the position and dispatches nothing."""
    parser = EventStreamParser()
    assert parser.feed(b": ping\nretry: 300\nid: 815\n\n") == []
    assert (parser.last_event_id, parser.retry_milliseconds) == ("815", 300)
    assert parser.comments == [" ping"]
