"""Three kinds of clients, unchanged, each receive create, update and delete."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import PAGES, open_browser, serve_pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.browser import Browser
    from tests.support.stack import Stack

EMAIL, PASSWORD = "user@example.com", "password"

TABLES = """
    CREATE TABLE posts (
        id bigint PRIMARY KEY, title text, published boolean, created_at timestamptz
    );
    CREATE TABLE comments (id bigint PRIMARY KEY, body text);
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY published ON posts USING (published);
    GRANT SELECT ON posts, comments TO ayb_authenticated;
"""

NEW = '{"id":42,"title":"New Post","published":true,"created_at":"2026-02-07T22:00:00Z"}'
RENAMED = NEW.replace("New Post", "Größe 😀")

# What is written, and exactly what each client must be told of it.
WRITES = [
    (
        "INSERT INTO posts VALUES (42, 'New Post', true, '2026-02-07 23:00:00+01')",
        '{"action":"create","table":"posts","record":' + NEW + "}",
    ),
    ("INSERT INTO posts VALUES (43, 'Draft', false, now())", None),
    (
        "UPDATE posts SET title = 'Größe 😀' WHERE id = 42",
        '{"action":"update","table":"posts","record":' + RENAMED + "}",
    ),
    (
        "INSERT INTO comments VALUES (7, NULL)",
        '{"action":"create","table":"comments","record":{"id":7,"body":null}}',
    ),
    (
        "DELETE FROM posts WHERE id = 42",
        '{"action":"delete","table":"posts","record":{"id":42}}',
    ),
]
EXPECTED = [frame for _, frame in WRITES if frame is not None]


@pytest.fixture
async def blog(stack: Stack) -> Stack:
    """A stack with posts, comments, and a user who can log in."""
    await stack.create(TABLES, "posts", "comments")
    await stack.add_user(EMAIL, PASSWORD)
    return stack


async def write(stack: Stack) -> None:
    for sql, _ in WRITES:
        await stack.sql(sql)


@contextlib.asynccontextmanager
async def program(*command: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program with pipes, and end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_curl(blog, require):
    """curl -N with the token in the URL prints the protocol's bytes, `connected` first."""
    curl = require.program("curl", package="curl")
    token = (await blog.login(EMAIL, PASSWORD))["token"]
    url = f"{blog.gateway_url}/api/realtime?tables=posts,comments&token={token}"
    async with program(curl, "-sN", "--noproxy", "*", url) as process, asyncio.timeout(20):
        frames = []

        async def frame() -> list[bytes]:
            text = await process.stdout.readuntil(b"\n\n")
            return text.removesuffix(b"\n\n").split(b"\n")

        event, position, data = await frame()
        assert event == b"event: connected"
        assert position.startswith(b"id: ")
        assert json.loads(data.removeprefix(b"data: ")).keys() == {"clientId"}
        await write(blog)
        while len(frames) < len(EXPECTED):
            lines = await frame()
            if lines[0] != b"event: heartbeat":
                frames.append(lines)
    assert [lines[1].decode() for lines in frames] == [f"data: {data}" for data in EXPECTED]
    assert all(len(lines) == 2 and lines[0].startswith(b"id: ") for lines in frames)


async def test_npm_client_under_node(blog, require):
    """The published npm client logs in, gets each event, and nothing after unsubscribing."""
    node = require.program("node", package="nodejs")
    require.that((PAGES / "node_modules").is_dir(), f"npm ci has not run in {PAGES}")
    arguments = (PAGES / "node_client.mjs", blog.gateway_url, EMAIL, PASSWORD, "posts", "comments")
    async with program(node, *arguments) as process, asyncio.timeout(30):
        seen: list[tuple[str, Any]] = []

        async def read_until(what: str) -> Any:
            while line := await process.stdout.readline():
                ((name, value),) = json.loads(line).items()
                seen.append((name, value))
                assert name != "error", seen
                if name == what:
                    return value
            raise AssertionError(f"the client has ended: {seen}")

        user = await read_until("user")
        assert user["email"] == EMAIL
        assert await read_until("me") == user
        assert await read_until("refreshed") == user
        await read_until("connected")
        await write(blog)
        for expected in EXPECTED:
            assert await read_until("raw") == expected
        events = [value for name, value in seen if name == "event"]
        assert events == [json.loads(frame) for frame in EXPECTED]
        process.stdin.write(b"unsubscribe\n")
        await read_until("unsubscribed")
        await blog.sql("DELETE FROM posts; DELETE FROM comments")
        process.stdin.write_eof()
        rest = await process.stdout.read()
        assert rest == b""
        assert await process.wait() == 0


@pytest.fixture
async def browser(require, tmp_path):
    """A headless Chromium."""
    chromium = require.program("chromium", "chromium-browser", "google-chrome", package="chromium")
    driver = require.program("chromedriver", package="chromium-driver")
    async with open_browser(chromium, driver, tmp_path) as opened:
        yield opened


@pytest.fixture
def page():
    """The test page's URL, on a different origin than the gateway."""
    with serve_pages() as url:
        yield url


async def test_event_source_in_chromium(blog, browser, page):
    """A browser's own EventSource gets each event in onmessage, with its position."""
    await browser.go(page)
    token = (await blog.login(EMAIL, PASSWORD))["token"]
    url = f"{blog.gateway_url}/api/realtime?tables=posts,comments&token={token}"
    await browser.run("window.plain(arguments[0])", url)
    await browser.wait_for("return window.seen.length")
    await write(blog)
    await browser.wait_for(f"return window.seen.length > {len(EXPECTED)}")
    connected, *messages = await browser.run("return window.seen")
    assert "connected" in connected
    assert [message["raw"]["data"] for message in messages] == EXPECTED
    assert all(message["raw"]["type"] == "message" for message in messages)
    positions = [message["raw"]["id"] for message in messages]
    assert len(set(positions)) == len(positions)


async def test_event_source_in_chromium_comes_back(blog, browser, page):
    """A browser whose gateway restarts reconnects by itself and misses nothing."""
    await browser.go(page)
    url = f"{blog.gateway_url}/api/realtime?tables=posts,comments&token={blog.token()}"
    await browser.run("window.plain(arguments[0])", url)
    await browser.wait_for("return window.seen.length")
    await blog.sql(WRITES[0][0])
    await browser.wait_for("return window.seen.some(e => e.raw)")
    await blog.stop("gateway")
    for sql, _ in WRITES[1:]:
        await blog.sql(sql)
    await blog.start("gateway")
    await browser.wait_for(f"return window.seen.filter(e => e.raw).length >= {len(EXPECTED)}", 30)
    seen = await browser.run("return window.seen")
    assert [entry["raw"]["data"] for entry in seen if "raw" in entry] == EXPECTED


async def test_event_source_with_credentials_in_chromium(
    start_stack: Any, browser: Browser, page: str
) -> None:
    """A page of a listed origin may ask with credentials, and is not closed for it."""
    origin = page.rpartition("/")[0]
    stack: Stack = await start_stack(gateway={"AYB_CORS_ORIGINS": origin})
    await stack.create(
        "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated",
        "posts",
    )
    await browser.go(page)
    url = f"{stack.gateway_url}/api/realtime?tables=posts&token={stack.token()}"
    await browser.run("window.plain(arguments[0], { withCredentials: true })", url)
    await browser.wait_for("return window.seen.length")
    (first, *_) = await browser.run("return window.seen")
    assert "connected" in first


async def test_npm_client_in_chromium(blog, browser, page, require):
    """The published npm client's ES module logs in from another origin and gets each event."""
    require.that((PAGES / "node_modules").is_dir(), f"npm ci has not run in {PAGES}")
    await browser.go(page)
    await browser.run(
        "return window.client(...arguments)",
        blog.gateway_url, EMAIL, PASSWORD, ["posts", "comments"],
    )  # fmt: skip
    await browser.wait_for("return window.seen.length")
    await write(blog)
    await browser.wait_for(f"return window.seen.length > {len(EXPECTED)}")
    _, *events = await browser.run("return window.seen")
    assert [event["event"] for event in events] == [json.loads(frame) for frame in EXPECTED]
    await browser.run("window.stop()")
    await blog.sql("INSERT INTO comments VALUES (8, 'unheard')")
    await asyncio.sleep(0.5)
    assert len(await browser.run("return window.seen")) == len(EXPECTED) + 1
