"""Frames of a stream, from its lines."""

from __future__ import annotations

import pytest

from gateway.diagnostics.frames import Frame, frames


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: {}\n\n", [Frame(None, "{}")]),
        ("event: connected\nid: 1-0\ndata:x\n\n", [Frame("connected", "x")]),
        (": a comment\n\nretry: 5\n\nevent: heartbeat\n\n", []),
        ("event: one\n\ndata: two\n\n", [Frame(None, "two")]),
        ("data: cut off\n", []),
    ],
)
async def test_frames(text: str, expected: list[Frame]) -> None:
    """Names and data are read as the standard says; a frame that is cut off is dropped."""

    async def lines():
        for line in text.split("\n")[:-1]:
            yield line

    assert [frame async for frame in frames(lines())] == expected
