"""Reads the frames of a Server-Sent Events stream from its lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class Frame:
    """One event: its name (None for an unnamed one, which is a change) and its data."""

    event: str | None
    data: str


async def frames(lines: AsyncIterator[str]) -> AsyncIterator[Frame]:
    """Yield the frames that the lines of a stream make; skip comments and frames without data.

    A gateway's frames have at most one `data` line. A frame that the end of the stream cuts off is
    dropped, as the standard demands.
    """
    event: str | None = None
    data: str | None = None
    async for line in lines:
        if not line:
            if data is not None:
                yield Frame(event, data)
            event = data = None
            continue
        field, _, value = line.partition(":")
        if field == "event":
            event = value.removeprefix(" ")
        elif field == "data":
            data = value.removeprefix(" ")
