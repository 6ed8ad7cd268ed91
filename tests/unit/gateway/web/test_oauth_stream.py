"""AYB's own OAuth streams, without a server to pass them on to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.streams.drain import Drain
from gateway.streams.limits import StreamLimits
from gateway.web import oauth_stream
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


async def test_one_network_leaves_places_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of one network beyond its share are refused; another network's are not."""
    monkeypatch.setattr(oauth_stream, "MOST_OF_A_NETWORK", 2)
    oauth = OAuthStream(
        "http://127.0.0.1:1",
        limits=StreamLimits(most=10, most_per_user=10),
        drain=Drain(seconds=1),
        cors=CorsPolicy(()),
    )
    statuses: dict[str, list[int]] = {"2001:db8::1": [], "2001:db8::2": [], "192.0.2.1": []}
    waiting = asyncio.Event()

    async def hold(*_: Any) -> None:
        await waiting.wait()

    async def receive() -> Any:
        await waiting.wait()

    monkeypatch.setattr(oauth, "_pass_on", hold)

    async def ask(address: str) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses[address].append(message["status"])

        scope = {"type": "http", "headers": [], "client": (address, 1)}
        await oauth(scope, receive, send)

    async with asyncio.TaskGroup() as group:
        for address in ("2001:db8::1", "2001:db8::2", "2001:db8::1", "192.0.2.1"):
            group.create_task(ask(address))
        while not statuses["2001:db8::1"]:  # noqa: ASYNC110 (a task of this loop fills it)
            await asyncio.sleep(0)
        waiting.set()
    assert statuses == {"2001:db8::1": [429], "2001:db8::2": [], "192.0.2.1": []}
    await ask("2001:db8::1")
    assert statuses["2001:db8::1"] == [429]
    await oauth.close()
