"""Behind express with `compression()` and http-proxy-middleware, which gather bytes to compress."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from devstack.process import Child
from tests.support.browser import PAGES
from tests.support.sse_client import SseClient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.requirements import Requirements
    from tests.support.stack import Stack

GZIP = {"Accept-Encoding": "gzip, deflate, br"}


async def test_a_compressing_node_proxy_holds_nothing_back(
    stack: Stack, require: Requirements, tmp_path: Path
) -> None:
    """Each event arrives while the stream is open, uncompressed, though the proxy compresses all
    else that a client takes compressed.
    """
    node = require.program("node", package="nodejs")
    require.that((PAGES / "node_modules/express").is_dir(), f"npm ci has not run in {PAGES}")
    await stack.create(
        "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated",
        "posts",
    )
    proxy = Child(
        "express",
        [node, PAGES / "compressing_proxy.mjs", stack.gateway_url],
        log=tmp_path / "express.log",
    )
    try:
        async with asyncio.timeout(30):
            while not proxy.output().strip():
                assert proxy.is_running
                await asyncio.sleep(0.05)
        url = f"http://127.0.0.1:{int(proxy.output())}"
        async with httpx.AsyncClient(trust_env=False) as http:
            text = await http.get(f"{url}/text", headers=GZIP)
            assert text.headers["content-encoding"] in ("gzip", "br")
        async with (
            asyncio.timeout(30),
            SseClient(url, token=stack.token(), headers=GZIP, tables="posts") as client,
        ):
            await client.connected()
            assert "content-encoding" not in client.headers
            for row in range(3):  # nothing follows that would push an event out
                await stack.sql("INSERT INTO posts VALUES ($1)", row)
                assert (await client.next_message()).json()["record"] == {"id": row}
    finally:
        proxy.stop()
