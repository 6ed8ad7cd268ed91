"""What is written to a stream: bytes of events, framed once for everyone who gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Frame:
    """Some bytes, at least one, and the same as a chunk of an HTTP/1.1 body (RFC 9112, 7.1).

    Chunks that follow each other need nothing between them, so what is written together is joined.
    """

    __slots__ = ("chunk", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.chunk = b"%x\r\n%b\r\n" % (len(data), data)

    def __len__(self) -> int:
        return len(self.data)


def joined(frames: Sequence[Frame]) -> bytes:
    """Join the bytes of frames."""
    return frames[0].data if len(frames) == 1 else b"".join([frame.data for frame in frames])


def joined_chunks(frames: Sequence[Frame]) -> bytes:
    """Join the chunks of frames."""
    return frames[0].chunk if len(frames) == 1 else b"".join([frame.chunk for frame in frames])
