"""Clients that give up for good: an EventSource that gets anything but 200 never comes back.

The HTML standard (section 9.2, "fail the connection") has it so. Firefox also gives up where a
page of another origin reconnects and is refused or reset, so it has a page of the same origin here;
what helps the others is in `tests/acceptance/test_firefox.py`. Each test opens streams of the npm
package `eventsource`, of Chromium and of Firefox, does what operators do, and insists that every
one of them is open at the end and has each row once, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.browser import open_browser, serve_pages
from tests.support.event_sources import (
    CLOSED,
    OPEN,
    BrowserSources,
    EventSources,
    node_sources,
)
from tests.support.firefox import open_firefox
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.requirements import Requirements
    from tests.support.stack import Stack

    OpenSources = Callable[[str], contextlib.AbstractAsyncContextManager[list[EventSources]]]

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
NODE_STREAMS, BROWSER_STREAMS = 20, 5
BACK_SECONDS = 60.0
GATEWAY = {"AYB_REALTIME_DRAIN_SECONDS": "2", "AYB_REALTIME_DRAIN_DELAY_SECONDS": "1"}


class Rows:
    """Writes rows with rising ids, as long as the database takes them."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._ids = itertools.count(1)
        self.written: list[int] = []
        self._is_writing = False

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write while the body runs."""
        self._is_writing = True
        task = asyncio.create_task(self._write())
        try:
            yield
        finally:
            # Not cancelled: a row that is committed at this moment must be known to be.
            self._is_writing = False
            await task

    async def add(self, count: int) -> None:
        """Write some rows now."""
        for row in itertools.islice(self._ids, count):
            await self._stack.sql("INSERT INTO posts VALUES ($1)", row)
            self.written.append(row)

    async def _write(self) -> None:
        while self._is_writing:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self.add(1)
            await asyncio.sleep(0.05)


@pytest.fixture
async def stack(start_stack: Any) -> Stack:
    stack: Stack = await start_stack(gateway=GATEWAY)
    await stack.create(
        "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated",
        "posts",
    )
    return stack


@pytest.fixture
def open_sources(require: Requirements, stack: Stack, tmp_path: Path) -> OpenSources:
    """Open streams of each kind on a gateway's or proxy's URL."""
    node = require.program("node", package="nodejs")
    chromium = require.program("chromium", "chromium-browser", package="chromium")
    driver = require.program("chromedriver", package="chromium-driver")
    firefox = require.program("firefox-esr", "firefox", package="firefox-esr")

    @contextlib.asynccontextmanager
    async def open_(base: str) -> AsyncIterator[list[EventSources]]:
        url = f"{base}/api/realtime?tables=posts&token={stack.token('me')}"
        async with contextlib.AsyncExitStack() as exits:
            page = exits.enter_context(serve_pages())
            browsers = [
                await exits.enter_async_context(open_browser(chromium, driver, tmp_path)),
                await exits.enter_async_context(open_firefox(firefox, tmp_path)),
            ]
            await browsers[0].go(page)
            await browsers[1].visit(base)
            for browser in browsers:
                await browser.run("window.streams(...arguments)", url, BROWSER_STREAMS)
            sources: list[EventSources] = [
                *map(BrowserSources, browsers),
                await exits.enter_async_context(node_sources(node, url, NODE_STREAMS)),
            ]
            await all_open(sources)
            yield sources

    return open_


async def all_open(sources: list[EventSources], *, complete: Rows | None = None) -> None:
    """Wait until every stream is open, and has every row; no stream may be closed for good."""
    end = time.monotonic() + BACK_SECONDS
    while True:
        reports = [await each.report() for each in sources]
        seen = [one for report in reports for one in report]
        closed = [[one.state for one in report].count(CLOSED) for report in reports]
        assert not any(closed), f"closed for good (chromium, firefox, node): {closed}; {seen[-1]}"
        missing = (
            0 if complete is None else sum(len(one.ids) < len(complete.written) for one in seen)
        )
        if all(one.state == OPEN for one in seen) and not missing:
            break
        assert time.monotonic() < end, f"{[one.state for one in seen]}, {missing} lack rows"
        await asyncio.sleep(0.2)
    for one in seen:
        assert one.count("resync") == 0, one.events
        if complete is not None:
            assert one.ids == complete.written


async def test_rolling_restart_behind_nginx(
    stack: Stack, open_sources: OpenSources, start_nginx: Any
) -> None:
    """Two gateways behind nginx are restarted in turn: no client gives up, no row is lost."""
    url = start_nginx(stack.gateway_url, await stack.add_gateway("second"))
    rows = Rows(stack)
    async with open_sources(url) as sources:
        async with rows.writing():
            for name in ("gateway", "second", "gateway"):
                assert await stack.stop(name) == 0
                await stack.start(name)
        await rows.add(1)
        await all_open(sources, complete=rows)


async def test_no_gateway_is_left_behind_nginx(
    stack: Stack, open_sources: OpenSources, start_nginx: Any
) -> None:
    """While every upstream is lost, nginx as docs/operations.md configures it keeps the clients."""
    (block,) = re.findall(r"^server \{\n(.*?)^\}", nginx_example(), re.MULTILINE | re.DOTALL)
    url = start_nginx(stack.gateway_url, server=block)
    rows = Rows(stack)
    async with open_sources(url) as sources:
        await rows.add(3)
        await stack.kill("gateway")
        await rows.add(3)
        await busy(sources)
        await stack.start("gateway")
        await rows.add(3)
        await all_open(sources, complete=rows)


def nginx_example() -> str:
    """The configuration that the documentation gives."""
    text = OPERATIONS.read_text(encoding="utf-8")
    example: str
    (example,) = re.findall(r"^```nginx\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return example


async def test_a_single_gateway_restarts(stack: Stack, open_sources: OpenSources) -> None:
    """A gateway without a balancer is stopped and started: its clients come back by themselves."""
    rows = Rows(stack)
    async with open_sources(stack.gateway_url) as sources:
        async with rows.writing():
            assert await stack.stop("gateway") == 0
            await asyncio.sleep(3)
            await stack.start("gateway")
        await rows.add(1)
        await all_open(sources, complete=rows)


async def test_clients_come_back_while_the_database_is_away(
    stack: Stack, open_sources: OpenSources
) -> None:
    """Clients that come back to a gateway without a database stay, and miss nothing once it is."""
    rows = Rows(stack)
    async with Proxy(int(stack.gateway_url.rpartition(":")[2])) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with open_sources(url) as sources:
            async with rows.writing():
                await asyncio.sleep(0.5)
                await stack.stop("postgres")
                proxy.cut()
                await busy(sources)
                await stack.start("postgres")
            await stack.ready("gateway")
            await rows.add(1)
            await all_open(sources, complete=rows)


async def test_a_gateway_starts_before_its_database(
    stack: Stack, open_sources: OpenSources
) -> None:
    """A gateway that restarts while the database is away asks its clients to wait."""
    rows = Rows(stack)
    async with open_sources(stack.gateway_url) as sources:
        await rows.add(3)
        await stack.stop("gateway")
        await stack.stop("postgres")
        stack.launch("gateway")
        await busy(sources)
        await stack.start("postgres")
        await stack.ready("gateway")
        await rows.add(3)
        await all_open(sources, complete=rows)


async def busy(sources: list[EventSources]) -> None:
    """Wait until some stream of each kind has been asked to come back later."""
    end = time.monotonic() + BACK_SECONDS
    for each in sources:
        while True:
            report = await each.report()
            closed = [one.state for one in report].count(CLOSED)
            assert not closed, f"{closed} of {len(report)} closed for good: {report[0]}"
            if any(one.count("busy") for one in report):
                break
            assert time.monotonic() < end, report[0]
            await asyncio.sleep(0.2)
