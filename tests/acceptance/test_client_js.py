"""The browser client (`/api/realtime/client.js`) under Node, against real gateways."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.browser import PAGES
from tests.support.listening import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.requirements import Requirements
    from tests.support.stack import Stack
    from tests.support.stack_fixtures import StartStack

MODULE = Path(__file__).parents[2] / "gateway/web/assets/client.js"
TABLES = """
    CREATE TABLE posts (id bigint PRIMARY KEY, title text);
    CREATE TABLE drafts (id bigint PRIMARY KEY);
    CREATE TABLE secrets (id bigint PRIMARY KEY);
    CREATE SCHEMA sales;
    CREATE TABLE sales.orders (id bigint PRIMARY KEY);
    GRANT USAGE ON SCHEMA sales TO PUBLIC;
    GRANT SELECT, TRIGGER ON sales.orders TO ayb_relay;
    GRANT SELECT ON posts, drafts, sales.orders TO ayb_authenticated;
"""


class Driver:
    """A Node process with the client in it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.seen: list[Any] = []

    def run(self, script: str) -> None:
        """Run a line of JavaScript."""
        assert self._process.stdin is not None
        self._process.stdin.write(script.replace("\n", " ").encode() + b"\n")

    async def until(self, wanted: Callable[[Any], bool], seconds: float = 30.0) -> Any:
        """Read lines until one is wanted; return it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            while True:
                line = await self._process.stdout.readline()
                assert line, f"Node ended; it said {self.seen}"
                value = json.loads(line)
                self.seen.append(value)
                assert not str(value).startswith("failed:"), value
                if wanted(value):
                    return value

    async def ids(self, count: int, seconds: float = 60.0) -> list[int]:
        """The keys of changes in the order in which they came, once there are so many."""

        def found() -> list[int]:
            return [line["id"] for line in self.seen if isinstance(line, dict) and "id" in line]

        while len(found()) < count:
            await self.until(lambda line: isinstance(line, dict) and "id" in line, seconds)
        return found()


@pytest.fixture
async def driver(require: Requirements) -> AsyncIterator[Driver]:
    """Node with the client, and helpers to report what arrives."""
    node = require.program("node", package="nodejs")
    process = await asyncio.create_subprocess_exec(
        node, PAGES / "client_driver.mjs", MODULE,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    driver = Driver(process)
    try:
        await driver.until(lambda line: line == "ready")
        yield driver
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def tokens(make: Callable[[], str]) -> AsyncIterator[str]:
    """Hand tokens out at an address, one a request."""

    async def hand_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        token = make()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(token)}\r\nConnection: close\r\n\r\n"
        writer.write(f"{head}{token}".encode())

    async with listening(hand_out) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
async def blog(start_stack: StartStack) -> Stack:
    """A stack with some tables, of which clients may read all but one."""
    stack = await start_stack(relay={"AYB_REALTIME_TABLES": "public.*,sales.*"})
    await stack.create(TABLES, "posts", "drafts", "secrets", "sales.orders")
    return stack


async def write(stack: Stack, rows: range, pause: float = 0.0) -> None:
    """Insert posts, each by itself."""
    for row in rows:
        await stack.sql("INSERT INTO posts VALUES ($1)", row)
        await asyncio.sleep(pause)


def test_the_parts(require: Requirements) -> None:
    """Positions, JSON and frames, as `client_parts.test.mjs` says."""
    node = require.program("node", package="nodejs")
    done = subprocess.run(
        [node, "--test", PAGES / "client_parts.test.mjs"],
        env={**os.environ, "CLIENT_MODULE": str(MODULE)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_tabs_miss_nothing_and_share_with_one_user_only(require: Requirements) -> None:
    """A tab leads before it knows what a busy one wants: see `shared_tabs.mjs`."""
    node = require.program("node", package="nodejs")
    done = subprocess.run(
        [node, PAGES / "shared_tabs.mjs", MODULE],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["seen"] == {"a": [102, 104], "b": [101, 103]}
    assert told["requests"] == ["a,b after 100", "a after 100", "a,b after 100"]
    assert told["users"] == 2


async def test_the_gateway_serves_it(stack: Stack) -> None:
    """The module and its types have an ETag, and are not sent again to caches that have them."""
    async with httpx.AsyncClient(base_url=stack.gateway_url, trust_env=False) as http:
        for name, kind in (("client.js", "text/javascript"), ("client.d.ts", "text/plain")):
            path = f"/api/realtime/{name}"
            first = await http.get(path, headers={"Origin": "https://app.example"})
            assert first.content == (MODULE.parent / name).read_bytes()
            assert first.headers["content-type"].startswith(kind)
            assert first.headers["access-control-allow-origin"] == "*"
            tag = first.headers["etag"]
            again = await http.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
            assert (again.status_code, again.content) == (304, b"")


async def test_restarts_lose_and_repeat_nothing(blog: Stack, driver: Driver) -> None:
    """Through two drains and a kill, each row arrives once and in order."""
    token = blog.token("me")
    driver.run(f"""
        globalThis.realtime = connect({{ url: "{blog.gateway_url}", token: "{token}",
          onState: (state, detail) => tell({{ state, ...detail }}) }});
        await realtime.subscribe(["posts"], ({{ record }}) => tell(record)).ready; tell("open");
    """)
    await driver.until(lambda line: line == "open")
    writing = asyncio.create_task(write(blog, range(1, 121), 0.05))
    for stop in (blog.stop, blog.kill, blog.stop):
        await asyncio.sleep(1.5)
        await stop("gateway")
        await blog.start("gateway")
    await writing
    assert await driver.ids(120) == list(range(1, 121))
    states = [line["state"] for line in driver.seen if isinstance(line, dict) and "state" in line]
    assert states.count("open") >= 2, states


async def test_tokens_are_replaced_before_they_end(blog: Stack, driver: Driver) -> None:
    """Tokens of a few seconds: none expires on a stream, and each row arrives once."""
    given = 0

    def make() -> str:
        nonlocal given
        given += 1
        return blog.token("me", exp=int(time.time()) + 4)

    async with tokens(make) as url:
        driver.run(f"""
            globalThis.realtime = connect({{ url: "{blog.gateway_url}",
              token: async () => (await fetch("{url}")).text(),
              onState: (state, detail) => tell({{ state, ...detail }}) }});
            await realtime.subscribe("posts", ({{ record }}) => tell(record)).ready; tell("open");
        """)
        await driver.until(lambda line: line == "open")
        await write(blog, range(1, 81), 0.1)
        assert await driver.ids(80) == list(range(1, 81))
    assert given >= 4
    assert not [line for line in driver.seen if "reason" in line], driver.seen


async def test_a_stale_token_is_replaced_at_once(blog: Stack, driver: Driver) -> None:
    """A token that is refused is asked for again, and only one that stays refused waits."""
    stale = blog.token("me", exp=int(time.time()) - 100)
    driver.run(f"""
        const given = ["{stale}", "{blog.token("me")}"];
        globalThis.realtime = connect({{ url: "{blog.gateway_url}",
          token: ({{ reason }}) => (tell({{ reason }}), given.shift()),
          onState: (state, detail) => tell({{ state, ...detail }}) }});
        await realtime.subscribe("posts").ready; tell("open");
    """)
    await driver.until(lambda line: line == "open", 5)
    assert [line["reason"] for line in driver.seen if "reason" in line] == ["connect", "refused"]
    driver.run("realtime.close()")
    driver.run(f"""
        connect({{ url: "{blog.gateway_url}", tables: "posts", token: "{stale}",
          onState: (state, detail) => tell({{ state, ...detail }}) }});
    """)
    waiting = await driver.until(lambda line: isinstance(line, dict) and "delay" in line, 10)
    assert waiting["reason"] == "unauthorized"
    assert waiting["message"] == "invalid or expired token"


async def test_subscriptions_are_one_stream(blog: Stack, driver: Driver) -> None:
    """Many subscriptions share a stream; a table that is refused ends its own ones only."""
    token = blog.token("me")
    driver.run(f"""
        globalThis.realtime = connect({{ url: "{blog.gateway_url}", token: "{token}",
          onState: (state, detail) => tell({{ state, ...detail }}) }});
        const all = ["posts", "public.posts", "orders", "sales.orders", "drafts"].map((name) =>
          realtime.subscribe(name, ({{ record, table }}) =>
            tell({{ name, table, row: record.id }})));
        for (const name of ["nosuch", "secrets"])
          realtime.subscribe([name], {{ onError: ({{ message }}) => tell({{ message }}) }});
        await Promise.all(all.map((one) => one.ready)); tell("open");
        all.at(-1).unsubscribe();
    """)
    await driver.until(lambda line: line == "open")
    await blog.sql("INSERT INTO drafts VALUES (9)")
    await blog.sql("INSERT INTO posts VALUES (1)")
    await blog.sql("INSERT INTO sales.orders VALUES (2)")
    await driver.until(
        lambda line: line == {"name": "sales.orders", "table": "sales.orders", "row": 2}
    )
    rows = [(line["name"], line["row"]) for line in driver.seen if "row" in line]
    assert sorted(rows) == [("orders", 2), ("posts", 1), ("public.posts", 1), ("sales.orders", 2)]
    assert [line["message"] for line in driver.seen if set(line) == {"message"}] == [
        "unknown table: nosuch",
        "permission denied for table: secrets",
    ]
    driver.run("""
        await realtime.subscribe("drafts", ({ record }) => tell({ late: record.id })).ready;
        tell("later");
    """)
    await driver.until(lambda line: line == "later")
    await blog.sql("INSERT INTO drafts VALUES (10)")
    await driver.until(lambda line: line == {"late": 10})
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(f"{blog.gateway_url}/metrics")).text
    assert "ayb_streams_open 1.0" in metrics


async def test_key_updates_and_exact_integers(blog: Stack, driver: Driver) -> None:
    """A key's update is a delete and a create; bigints keep every digit."""
    driver.run(f"""
        globalThis.realtime = connect({{ url: "{blog.gateway_url}", token: "{blog.token("me")}",
          tables: ["posts"], integers: "bigint" }});
        const items = realtime[Symbol.asyncIterator]();
        globalThis.reading = (async () => {{ for await (const item of items) tell(item); }})();
        await realtime.subscribe("posts").ready; tell("open");
    """)
    await driver.until(lambda line: line == "open")
    await blog.sql("INSERT INTO posts VALUES (9007199254740993, 'a')")
    await blog.sql("UPDATE posts SET id = 5")
    await blog.sql("TRUNCATE posts")
    await driver.until(lambda line: isinstance(line, dict) and line.get("type") == "truncate")
    created, deleted, moved, truncated = driver.seen[2:]
    assert created["record"] == {"id": "bigint 9007199254740993", "title": "a"}
    assert (deleted["action"], deleted["record"]) == ("delete", {"id": "bigint 9007199254740993"})
    assert (moved["action"], moved["record"]) == ("create", {"id": 5, "title": "a"})
    assert deleted["id"] == created["id"]  # whoever continues there gets both halves
    assert deleted["until"] == moved["id"]
    assert truncated["table"] == "posts"
    driver.run('realtime.close(); await reading; tell("ended")')
    await driver.until(lambda line: line == "ended")


async def test_a_slow_iterator_pauses_reading(blog: Stack, driver: Driver) -> None:
    """An iterator that is not read pauses its stream, and gets everything in the end."""
    driver.run(f"""
        globalThis.realtime = connect({{ url: "{blog.gateway_url}", token: "{blog.token("me")}",
          tables: ["posts"], silence: 1 }});
        globalThis.items = realtime[Symbol.asyncIterator]();
        await realtime.subscribe("posts").ready; tell("open");
    """)
    await driver.until(lambda line: line == "open")
    await blog.sql("INSERT INTO posts SELECT n, repeat('x', 2000) FROM generate_series(1, 20000) n")
    driver.run("""
        const after = async (ms) => {
          await new Promise((done) => setTimeout(done, ms)); return realtime.position; };
        const positions = [await after(2000), await after(1000)];
        tell({ rss: process.memoryUsage().rss, positions });
    """)
    paused = await driver.until(lambda line: isinstance(line, dict) and "rss" in line)
    assert paused["rss"] < 150 * 2**20
    first, second = paused["positions"]
    assert first == second
    driver.run("""
        let last = 0; for await (const { record } of items) {
          if (Number(record.id) !== last + 1) tell(`failed: ${record.id} after ${last}`);
          last = Number(record.id); if (last === 20000) break; } tell({ last });
    """)
    await driver.until(lambda line: line == {"last": 20000}, 60)
