"""The recipe of docs/protocol.md for tokens that expire, run under Node."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.browser import PAGES
from tests.support.listening import listening

if TYPE_CHECKING:
    from tests.support.requirements import Requirements
    from tests.support.stack import Stack

DOCUMENT = Path(__file__).parents[2] / "docs/protocol.md"
TOKEN_SECONDS = 3
ROWS = 90


def snippet() -> str:
    """The JavaScript of the document."""
    found: str
    (found,) = re.findall(
        r"^```js\n(function subscribe.*?)^```$",
        DOCUMENT.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return found


async def test_a_client_outlives_its_tokens(
    stack: Stack, require: Requirements, tmp_path: Path
) -> None:
    """Through several tokens of a few seconds, each row arrives once and in order."""
    node = require.program("node", package="nodejs")
    await stack.create(
        "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated",
        "posts",
    )
    file = tmp_path / "snippet.js"
    file.write_text(snippet(), encoding="utf-8")
    handed_out = 0

    async def hand_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal handed_out
        await reader.readuntil(b"\r\n\r\n")
        handed_out += 1
        token = stack.token("me", exp=int(time.time()) + TOKEN_SECONDS)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(token)}\r\nConnection: close\r\n\r\n"
        writer.write(f"{head}{token}".encode())

    async with listening(hand_out) as port:
        tokens = f"http://127.0.0.1:{port}/"
        process = await asyncio.create_subprocess_exec(
            node, PAGES / "expiring.mjs", file, stack.gateway_url, "posts", tokens,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        lines: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(60):
                lines.append(json.loads(await process.stdout.readline()))
                await streaming(stack)
                for row in range(1, ROWS + 1):
                    await stack.sql("INSERT INTO posts VALUES ($1)", row)
                    await asyncio.sleep(0.1)
                seen: list[int] = []
                while len(seen) < ROWS:
                    line = json.loads(await process.stdout.readline())
                    if "event" in line:
                        seen.append(line["event"]["record"]["id"])
        finally:
            process.stdin.close()
            await process.wait()
    assert seen == list(range(1, ROWS + 1))
    assert handed_out >= 3


async def streaming(stack: Stack) -> None:
    """Wait until the client's stream is open."""
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            text = (await http.get(f"{stack.gateway_url}/metrics")).text
            if "\nayb_streams_open 1.0\n" in text:
                return
            await asyncio.sleep(0.05)
