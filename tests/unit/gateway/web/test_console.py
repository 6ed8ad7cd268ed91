"""The console's questions to the database."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.web.authentication import Authentication
from gateway.web.console import ConsoleOptions, console_router


class Pool:
    """Counts the questions that are asked at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def fetchrow(self, *_: object) -> dict[str, Any]:
        """Answer like the outbox, after a moment."""
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        return {"now": 1.0, "ids": ["7"], "at": [0.5]}


async def test_strangers_cannot_occupy_the_pool() -> None:
    """However many ask when batches were recorded, live streams have connections left."""
    pool, web = Pool(), FastAPI()
    unused: Any = None
    authentication = Authentication(verifier=None, anonymous_role=None, roles=unused)
    options = ConsoleOptions(
        has_auth=False, has_login=False, has_explain=False, allows_anonymous=True
    )
    asked: Any = pool
    web.include_router(console_router(options, pool=asked, authentication=authentication))
    transport = httpx.ASGITransport(app=web)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        path = "/console/batches?ids=7"
        answers = await asyncio.gather(*(http.get(path) for _ in range(20)))
    assert [a.json() for a in answers] == [{"now": 1.0, "batches": {"7": 0.5}}] * 20
    assert pool.most == 1
