"""The Python client and `ayb-tail`, against real gateways."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from ayb_realtime import Change, RefusedError, Resync, Truncate, stream

from tests.support.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.stack import Stack

TABLES = """
    CREATE TABLE posts (id bigint PRIMARY KEY, price numeric);
    CREATE TABLE hidden (id int PRIMARY KEY);
    GRANT SELECT ON posts TO ayb_authenticated;
"""


@pytest.fixture
async def posts(stack: Stack) -> Stack:
    """A stack with a table that clients may read, and one that they may not."""
    await stack.create(TABLES, "posts", "hidden")
    return stack


@contextlib.asynccontextmanager
async def following(stack: Stack, **options: Any) -> AsyncIterator[list[Any]]:
    """Follow `posts`; what arrives is in the list. The stream is open on entry."""
    options.setdefault("token", stack.token("me"))
    items: list[Any] = []
    is_open = asyncio.Event()

    async def follow() -> None:
        following = stream(
            stack.gateway_url, ["posts"], on_connect=lambda _: is_open.set(), **options
        )
        async with contextlib.aclosing(following):
            async for item in following:
                items.append(item)

    task = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(20):
            await is_open.wait()
        yield items
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(items: list[Any], count: int) -> None:
    """Wait for so many items."""
    async with asyncio.timeout(60):
        while len(items) < count:  # noqa: ASYNC110 (another task fills the list)
            await asyncio.sleep(0.02)


async def test_restarts_lose_and_repeat_nothing(posts: Stack) -> None:
    """Through a drain and a kill each row arrives once and in order."""
    async with following(posts) as items:
        for stop, rows in ((posts.stop, range(50)), (posts.kill, range(50, 100))):
            for row in rows:
                await posts.sql("INSERT INTO posts VALUES ($1)", row)
                if row % 50 == 20:
                    await stop("gateway")
                    await posts.start("gateway")
        await until(items, 100)
    assert [item.record["id"] for item in items] == list(range(100))


async def test_tokens_are_replaced_before_they_end(posts: Stack) -> None:
    """Tokens of a few seconds: each row arrives once; the function gets the reason of each call."""
    reasons: list[str] = []

    async def token(reason: str) -> str:
        reasons.append(reason)
        return posts.token("me", exp=int(time.time()) + 4)

    async with following(posts, token=token) as items:
        for row in range(60):
            await posts.sql("INSERT INTO posts VALUES ($1)", row)
            await asyncio.sleep(0.1)
        await until(items, 60)
    assert [item.record["id"] for item in items] == list(range(60))
    assert reasons[0] == "connect"
    assert set(reasons[1:]) == {"expiring"}


async def test_what_arrives(posts: Stack) -> None:
    """Every digit, both halves of a changed key, TRUNCATE, and resumption between any two."""
    async with following(posts, parse_float=Decimal) as items:
        await posts.sql("INSERT INTO posts VALUES (9007199254740993, 0.1234567890123456789)")
        await posts.sql("UPDATE posts SET id = 5")
        await posts.sql("TRUNCATE posts")
        await until(items, 4)
    created, deleted, moved, truncated = items
    price = Decimal("0.1234567890123456789")
    assert isinstance(created, Change)
    assert created.record == {"id": 9007199254740993, "price": price}
    assert (deleted.action, deleted.record) == ("delete", {"id": 9007199254740993})
    assert (moved.action, deleted.position) == ("create", created.position)
    assert isinstance(truncated, Truncate)
    async with following(posts, last_event_id=created.position) as again:
        await until(again, 3)
        assert [item.position for item in again] == [item.position for item in items[1:]]
    async with following(posts, last_event_id="nonsense") as lost:
        await until(lost, 1)
        assert isinstance(lost[0], Resync)
        assert lost[0].tables == ("posts",)


async def test_what_is_refused(posts: Stack) -> None:
    """What will not change is raised; a passing refusal is waited out."""
    for tables, token, status in (
        (["nosuch"], posts.token("me"), 400),
        (["hidden"], posts.token("me"), 403),
        (["posts"], posts.token("me", exp=int(time.time()) - 60), 401),
        (["posts"], None, 401),
    ):
        with pytest.raises(RefusedError) as refused:
            await anext(stream(posts.gateway_url, tables, token=token))
        assert refused.value.status == status
    await posts.stop("postgres")
    waiting = asyncio.create_task(
        anext(stream(posts.gateway_url, ["posts"], token=posts.token("me")))
    )
    try:
        done, _ = await asyncio.wait({waiting}, timeout=2)
        assert not done
        await posts.start("postgres")
        async with asyncio.timeout(60):
            for row in itertools.count():
                if waiting.done():
                    break
                await posts.sql("INSERT INTO posts VALUES ($1)", row)
                await asyncio.sleep(0.1)
        assert isinstance(await waiting, Change)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_ayb_tail(posts: Stack) -> None:
    """It prints lines of JSON, and says in one line what is wrong."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "clients/python")}
    environment["AYB_TOKEN"] = posts.token("me")

    async def tail(*arguments: str, program: str = "ayb_realtime") -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", *program.split(), *arguments, "--url", posts.gateway_url,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    process = await tail("posts", "--json")
    async with asyncio.timeout(30):
        assert b"connected" in await process.stderr.readline()
        await posts.sql("INSERT INTO posts VALUES (1, 0.50)")
        item = json.loads(await process.stdout.readline())
        assert (item["type"], item["action"], item["record"]["id"]) == ("change", "create", 1)
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 130
        process = await tail("nosuch")
        _, complaint = await process.communicate()
        assert complaint == b"ayb-tail: unknown table: nosuch\n"
        assert process.returncode == 1
        process = await tail("nosuch", program="gateway tail")
        _, complaint = await process.communicate()
        assert complaint == b"python -m gateway tail: unknown table: nosuch\n"
        assert process.returncode == 1
