"""AYB's own OAuth streams, without a server to pass them on to."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.streams.drain import Drain
from gateway.streams.limits import StreamLimits
from gateway.web.cors import CorsPolicy
from gateway.web.oauth_stream import OAuthStream


async def test_nothing_is_left_of_a_stream() -> None:
    """Else a client that opens and leaves many takes the gateway's memory."""
    oauth = OAuthStream(
        "http://127.0.0.1:1",
        limits=StreamLimits(most=10, most_per_user=10),
        drain=Drain(seconds=1),
        cors=CorsPolicy(()),
    )
    statuses: list[int] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    try:
        for _ in range(20):
            await oauth({"type": "http", "headers": []}, receive, send)
        await asyncio.sleep(0)
        assert statuses == [503] * 20
        assert asyncio.all_tasks() == {asyncio.current_task()}
    finally:
        await oauth.close()
