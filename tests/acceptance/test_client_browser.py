"""The browser client in Chromium, on a page of another origin than the gateway's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.browser import serve_pages

if TYPE_CHECKING:
    from tests.support.browser import Chromium
    from tests.support.stack import Stack

TABLE = """
    CREATE TABLE posts (id int PRIMARY KEY, owner text);
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON posts USING (owner = current_setting('ayb.user_id', true));
    GRANT SELECT ON posts TO ayb_authenticated;
"""
SHARED = "return begin(arguments[0], {share: true})"
SEEN = "return window.seen.length >= arguments[0] && window.seen"


@pytest.fixture
async def posts(stack: Stack) -> Stack:
    """A stack with a table of which each user sees the own rows."""
    await stack.create(TABLE, "posts")
    return stack


@pytest.fixture
def page(posts: Stack):
    """The address of the page."""
    with serve_pages() as url:
        yield url.replace("page.html", f"client_page.html?gateway={posts.gateway_url}")


async def insert(stack: Stack, rows: range, owner: str = "me", pause: float = 0.0) -> None:
    """Insert rows one by one."""
    for row in rows:
        await stack.sql("INSERT INTO posts VALUES ($1, $2)", row, owner)
        await asyncio.sleep(pause)


async def streams(stack: Stack) -> int:
    """How many streams the gateway holds."""
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(f"{stack.gateway_url}/metrics")).text
    (line,) = (line for line in metrics.splitlines() if line.startswith("ayb_streams_open "))
    return int(float(line.split()[1]))


async def seen(browser: Chromium, count: int) -> list[object]:
    """What the tab has received, once it is so much."""
    await browser.wait_for(f"return window.seen.length >= {count}", 30)
    found: list[object] = await browser.run("return window.seen")
    return found


async def test_tabs_share_one_stream(posts: Stack, browser: Chromium, page: str) -> None:
    """Eight tabs use one stream; each gets every row once, though the leading tabs are closed."""
    token = posts.token("me")
    await browser.go(page)
    await browser.run(SHARED, token)
    tabs = [await browser.handle()]
    for _ in range(7):
        tabs.append(await browser.open_tab(page))
        await browser.run(SHARED, token)
    assert await streams(posts) == 1
    writing = asyncio.create_task(insert(posts, range(1, 101), pause=0.05))
    while len(tabs) > 2:
        await asyncio.sleep(0.4)
        await browser.switch(tabs.pop(0))
        await browser.close_tab()
    await writing
    for tab in tabs:
        await browser.switch(tab)
        assert await seen(browser, 100) == list(range(1, 101))
    # Chromium closes the connections of a tab some time after the tab.
    async with asyncio.timeout(10):
        while await streams(posts) != 1:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)


async def test_a_tab_that_is_suspended_loses_the_lead(
    posts: Stack, browser: Chromium, page: str
) -> None:
    """The browser suspends the leading page, which keeps its lock: another tab takes over, and the
    page has everything once it is woken.
    """
    begin = "return begin(arguments[0], {share: true, silence: 2})"
    token = posts.token("me")
    await browser.go(page)
    await browser.run(begin, token)
    leader = await browser.handle()
    other = await browser.open_tab(page)
    await browser.run(begin, token)
    await insert(posts, range(2))
    assert await seen(browser, 2) == [0, 1]
    await browser.switch(leader)
    await browser.freeze(frozen=True)
    await browser.switch(other)
    await insert(posts, range(2, 6), pause=1.0)
    assert await seen(browser, 6) == list(range(6))
    await browser.switch(leader)
    await browser.freeze(frozen=False)
    await insert(posts, range(6, 8))
    assert await seen(browser, 8) == list(range(8))
    await browser.switch(other)
    assert await seen(browser, 8) == list(range(8))
    assert await streams(posts) == 1


async def test_users_share_nothing(posts: Stack, browser: Chromium, page: str) -> None:
    """Tabs of two users have a stream each, and see what is theirs."""
    await browser.go(page)
    await browser.run(SHARED, posts.token("me"))
    mine = await browser.handle()
    yours = await browser.open_tab(page)
    await browser.run(SHARED, posts.token("you"))
    assert await streams(posts) == 2
    for row, owner in enumerate(["me", "you", "me", "you"]):
        await insert(posts, range(row, row + 1), owner)
    assert await seen(browser, 2) == [1, 3]
    await browser.switch(mine)
    assert await seen(browser, 2) == [0, 2]
    await browser.switch(yours)
    assert await browser.run("return window.seen") == [1, 3]


async def test_the_network_comes_and_goes(posts: Stack, browser: Chromium, page: str) -> None:
    """Without a network the client waits; what was missed arrives once it is back."""
    await browser.go(page)
    await browser.run("return begin(arguments[0])", posts.token("me"))
    await insert(posts, range(3))
    await seen(browser, 3)
    await browser.set_offline(offline=True)
    await posts.kill("gateway")
    await browser.wait_for("return window.states.at(-1) === 'offline'", 30)
    await posts.start("gateway")
    await insert(posts, range(3, 6))
    await browser.set_offline(offline=False)
    assert await seen(browser, 6) == list(range(6))


async def test_a_reload_continues_where_it_is_asked_to(
    posts: Stack, browser: Chromium, page: str
) -> None:
    """A remembered position continues over a reload; without one the page begins afresh."""
    token = posts.token("me")
    remember = "return begin(arguments[0], {remember: 'posts'})"
    await browser.go(page)
    await browser.run(remember, token)
    await insert(posts, range(2))
    await seen(browser, 2)
    await browser.run("realtime.close()")
    await insert(posts, range(2, 4))
    await browser.reload()
    await browser.run(remember, token)
    await insert(posts, range(4, 5))
    assert await seen(browser, 3) == [2, 3, 4]
    await browser.reload()
    await browser.run("return begin(arguments[0])", token)
    await insert(posts, range(5, 6))
    assert await seen(browser, 1) == [5]
