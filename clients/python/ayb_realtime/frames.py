"""Server-Sent Events from bytes, piece by piece (the HTML standard, "Server-sent events")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ENDING: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Frame:
    """An event: its name and data, and the fields `id` and `retry` (milliseconds), if any."""

    name: str
    data: str
    id: str | None
    retry: int | None


class FrameReader:
    """Collects bytes until frames are complete."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of an unfinished line
        self._begun = False
        self._after_return = False
        self._clear()

    def push(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the frames that they complete."""
        if not data:
            return []
        start = 0
        if self._after_return and data.startswith(b"\n"):
            start = 1
        self._after_return = False
        frames: list[Frame] = []
        for ending in _ENDING.finditer(data, start):
            self._pieces.append(data[start : ending.start()])
            line, self._pieces = b"".join(self._pieces), []
            start = ending.end()
            self._after_return = ending.group() == b"\r" and start == len(data)
            if not self._begun:
                line, self._begun = line.removeprefix(_BYTE_ORDER_MARK), True
            if (frame := self._line(line)) is not None:
                frames.append(frame)
        if start < len(data):
            self._pieces.append(data[start:])
        return frames

    def _clear(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._id: str | None = None
        self._retry: int | None = None

    def _line(self, line: bytes) -> Frame | None:
        if not line:
            frame = None
            if self._data:
                data = "\n".join(self._data)
                frame = Frame(self._name or "message", data, self._id, self._retry)
            self._clear()
            return frame
        name, _, rest = line.partition(b":")
        value = rest.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value
        elif name == b"id" and "\0" not in value:
            self._id = value
        elif name == b"retry" and value.isascii() and value.isdigit():
            self._retry = int(value)
        return None
