"""Real clients that give up: the npm package `eventsource` under Node, and those of browsers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tests.support.browser import PAGES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.browser import Browser

OPEN, CLOSED = 1, 2


@dataclass(frozen=True)
class Seen:
    """What one EventSource says: its readyState, the records' ids, and named events with data."""

    state: int
    ids: list[int]
    events: list[tuple[str, Any]]

    def count(self, event: str) -> int:
        """How many events of a name it got."""
        return sum(name == event for name, _ in self.events)


class EventSources(Protocol):
    """Some streams of one kind of client."""

    async def report(self) -> list[Seen]:
        """Look at every stream."""


class NodeSources:
    """Streams of the npm package `eventsource`, in one process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def report(self) -> list[Seen]:
        """Look at every stream."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"report\n")
        return _seen(json.loads(await self._process.stdout.readline()))


class BrowserSources:
    """Streams of a page: at most five, since browsers open six connections to a host."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    async def report(self) -> list[Seen]:
        """Look at every stream."""
        return _seen(await self._browser.run("return window.report()"))


@contextlib.asynccontextmanager
async def node_sources(node: Path, url: str, count: int) -> AsyncIterator[NodeSources]:
    """Open streams in a Node process."""
    process = await asyncio.create_subprocess_exec(
        node,
        PAGES / "event_sources.mjs",
        url,
        str(count),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield NodeSources(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _seen(report: list[dict[str, Any]]) -> list[Seen]:
    return [
        Seen(each["state"], each["ids"], [(name, data) for name, data in each["events"]])
        for each in report
    ]
