"""Firefox, whose EventSource takes positions from other events, and gives up sooner."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.test_expiry import snippet
from tests.support.browser import PAGES, Browser, serve_pages
from tests.support.firefox import open_firefox
from tests.support.listening import listening
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.requirements import Requirements
    from tests.support.stack import Stack

EMAIL, PASSWORD = "user@example.com", "password"
TABLE = "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated"
TOKEN_SECONDS = 4
OPEN_STREAM = """
    window.rows = [];
    window.tokens = 0;
    const subscribe = new Function(arguments[0] + "\\nreturn subscribe;")();
    subscribe(arguments[1], "posts", {
        getToken: async () => { window.tokens += 1; return (await fetch(arguments[2])).text(); },
        onEvent: (event) => window.rows.push(event.record.id),
    });
"""


@pytest.fixture
async def browser(require: Requirements, tmp_path: Path) -> AsyncIterator[Browser]:
    """A headless Firefox."""
    firefox = require.program("firefox-esr", "firefox", package="firefox-esr")
    async with open_firefox(firefox, tmp_path) as opened:
        yield opened


@pytest.fixture
def page() -> Iterator[str]:
    """The test page's URL, on a different origin than the gateway."""
    with serve_pages() as url:
        yield url


async def test_an_idle_client_comes_back_from_where_it_is(
    start_stack: Any, browser: Browser, page: str
) -> None:
    """A heartbeat moves Firefox's position forward too: after a cut it asks for what follows it."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_HEARTBEAT_SECONDS": "0.3"})
    await stack.create(TABLE, "posts")
    asked: list[str] = []
    async with Proxy(int(stack.gateway_url.rpartition(":")[2]), looking_at=asked.append) as proxy:
        await browser.go(page)
        url = f"http://127.0.0.1:{proxy.port}/api/realtime?tables=posts&token={stack.token()}"
        await browser.run("window.plain(arguments[0])", url)
        await browser.wait_for("return window.seen.length")
        # Batches of other tables pass without an event.
        await stack.sql("CREATE TABLE other (id int PRIMARY KEY)")
        await stack.captured("other")
        await stack.sql("INSERT INTO other VALUES (1)")
        await browser.wait_for("return window.heartbeat")
        first = await browser.run("return window.heartbeat")
        await stack.sql("INSERT INTO other VALUES (2)")
        await browser.wait_for(f"return window.heartbeat !== {json.dumps(first)}")
        shown = await browser.run("return window.heartbeat")
        await stack.sql("INSERT INTO posts VALUES (1)")
        await browser.wait_for("return window.seen.some(e => e.raw)")
        position = await browser.run("return window.seen.find(e => e.raw).raw.id")
        await stack.sql("INSERT INTO other VALUES (3)")
        await browser.wait_for(f"return window.heartbeat !== {json.dumps(shown)}")
        asked.clear()
        proxy.cut()
        await browser.wait_for("return window.seen.filter(e => e.connected).length > 1", 30)
    (header,) = re.findall(r"(?im)^last-event-id: (.*?)\r$", "".join(asked))
    assert int(header.partition("-")[0]) > int(position.partition("-")[0])


async def test_the_npm_client(stack: Stack, browser: Browser, page: str, require: Any) -> None:
    """The published npm client's ES module logs in from another origin and gets each event."""
    require.that((PAGES / "node_modules").is_dir(), f"npm ci has not run in {PAGES}")
    await stack.create(TABLE, "posts")
    await stack.add_user(EMAIL, PASSWORD)
    await browser.go(page)
    await browser.run(
        "return window.client(...arguments)", stack.gateway_url, EMAIL, PASSWORD, ["posts"]
    )
    await browser.wait_for("return window.seen.length")
    await stack.sql("INSERT INTO posts VALUES (1); UPDATE posts SET id = 1; DELETE FROM posts")
    await browser.wait_for("return window.seen.length > 3")
    _, *events = await browser.run("return window.seen")
    assert [(e["event"]["action"], e["event"]["record"]["id"]) for e in events] == [
        ("create", 1),
        ("update", 1),
        ("delete", 1),
    ]


async def test_the_recipe_outlives_tokens_and_refusals(
    stack: Stack, browser: Browser, page: str
) -> None:
    """The recipe of docs/protocol.md opens the stream again after `expired`, and where Firefox has
    given up because a gateway of another origin refused the connection: each row arrives once.
    """
    await stack.create(TABLE, "posts")

    async def hand_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        token = stack.token("me", exp=int(time.time()) + TOKEN_SECONDS)
        writer.write(
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n"
            f"Content-Length: {len(token)}\r\n\r\n{token}".encode()
        )

    rows = 0

    async def write(count: int) -> None:
        nonlocal rows
        for _ in range(count):
            rows += 1
            await stack.sql("INSERT INTO posts VALUES ($1)", rows)

    async with listening(hand_out) as port:
        tokens = f"http://127.0.0.1:{port}/"
        await browser.go(page)
        await browser.run(OPEN_STREAM, snippet(), stack.gateway_url, tokens)
        # The recipe's stream is not live before its `connected`; the first row shows that it is.
        while not rows or not await browser.run("return window.rows.length"):
            await write(1)
            await asyncio.sleep(0.1)
        first = await browser.run("return window.rows[0]")
        await stack.stop("gateway")
        await write(3)
        await asyncio.sleep(2)  # its reconnect is refused
        await stack.start("gateway")
        end = time.monotonic() + 60
        while await browser.run("return window.tokens") < 4:
            assert time.monotonic() < end, await browser.run("return window.rows")
            await write(1)
            await asyncio.sleep(0.2)
        await browser.wait_for(f"return window.rows.at(-1) === {rows}", 30)
        assert await browser.run("return window.rows") == list(range(first, rows + 1))
