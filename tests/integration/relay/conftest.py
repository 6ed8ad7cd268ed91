"""A relay in this process, and a subscriber on the bus."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from relay.app import Relay
from relay.health import Health
from relay.metrics import RelayMetrics
from relay.settings import RelaySettings
from shared.change import Change, TableMessage, Tick, decode_table_message, decode_tick
from shared.redis import redis_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from devstack.servers import ValkeyServer
    from tests.support.databases import Database

WAIT_SECONDS = 60.0


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for a condition that sends no signal."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 (a gauge or a process has no event)
            await asyncio.sleep(0.01)


def is_leading(metrics: RelayMetrics) -> bool:
    """Whether a relay has the lead."""
    return bool(metrics.leading._value.get())


@dataclass(frozen=True)
class Heard:
    """One change as it arrived over the bus."""

    table: str
    key: tuple[str, ...]
    epoch: int
    batch: int
    change: Change

    @property
    def new(self) -> str | None:
        image = self.change.new_image
        return None if image is None else image.decode()

    @property
    def old(self) -> str | None:
        image = self.change.old_image
        return None if image is None else image.decode()

    @property
    def op(self) -> str:
        return self.change.op.value


class Ear:
    """Receives everything on the bus, in order."""

    def __init__(self) -> None:
        self.ticks: list[Tick] = []
        self.messages: list[TableMessage] = []
        self.heard: list[Heard] = []
        self._news = asyncio.Event()
        self._open: list[TableMessage] = []

    def take(self, channel: str, data: bytes) -> None:
        if channel.endswith(":tick"):
            self.ticks.append(decode_tick(data))
            # Changes in their order: over all tables of the batch, by index.
            self.heard.extend(
                sorted(
                    (
                        Heard(m.content.table, m.content.key, m.epoch, m.batch, change)
                        for m in self._open
                        for change in m.content.changes
                    ),
                    key=lambda heard: heard.change.index,
                )
            )
            self._open = []
        else:
            message = decode_table_message(data)
            self.messages.append(message)
            self._open.append(message)
        self._news.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something has been received."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def changes(self, count: int) -> list[Heard]:
        """Wait for this many changes, and check that no more came with them."""
        await self.until(lambda: len(self.heard) >= count)
        assert len(self.heard) == count
        return self.heard

    async def ticked(self, count: int = 2) -> None:
        """Wait for ticks: everything that was on its way has then arrived."""
        want = len(self.ticks) + count
        await self.until(lambda: len(self.ticks) >= want)


@contextlib.asynccontextmanager
async def open_ear(url: str) -> AsyncIterator[Ear]:
    """Listen to the bus."""
    ear = Ear()
    client = redis_client(url, answer_seconds=None)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.psubscribe("ayb:realtime:*")
    await pubsub.ping()

    async def listen() -> None:
        async for message in pubsub.listen():
            if message["type"] == "pmessage":
                channel = message["channel"].decode()
                if channel.endswith(":tick") or ":table:" in channel:
                    ear.take(channel, message["data"])

    task = asyncio.create_task(listen(), name="ear")
    try:
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pubsub.aclose()
        await client.aclose()


@pytest.fixture
async def ear(valkey_server: ValkeyServer) -> AsyncIterator[Ear]:
    """Receive everything that this test's relays publish."""
    async with open_ear(valkey_server.url) as ear:
        yield ear


class Relays:
    """Starts relays on the test's database."""

    def __init__(self, dsn: str, redis_url: str) -> None:
        self.dsn = dsn
        self.redis_url = redis_url

    def settings(self, **changed: Any) -> RelaySettings:
        given: dict[str, Any] = {
            "database_url": self.dsn,
            "redis_url": self.redis_url,
            "relay_notify": "on",
            "relay_scan_seconds": 0.1,
        }
        return RelaySettings(**{**given, **changed})

    @contextlib.asynccontextmanager
    async def running(self, **changed: Any) -> AsyncIterator[RelayMetrics]:
        """Run one in this process; it has the lead when the context begins."""
        metrics = RelayMetrics()
        relay = Relay(self.settings(**changed), health=Health(metrics), metrics=metrics)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(relay.run(), name="relay")
            await eventually(lambda: is_leading(metrics) or task.done())
            try:
                yield metrics
            finally:
                task.cancel()

    @contextlib.asynccontextmanager
    async def process(self, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run one in a process of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relay",
            "run",
            env={
                **os.environ,
                "AYB_DATABASE_URL": self.dsn,
                "AYB_REDIS_URL": self.redis_url,
                "AYB_RELAY_NOTIFY": "on",
                "AYB_RELAY_SCAN_SECONDS": "0.1",
                "AYB_RELAY_HOST": "127.0.0.1",
                "AYB_RELAY_PORT": "0",
                **environment,
            },
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()


@pytest.fixture
async def relays(database: Database, valkey_server: ValkeyServer) -> Relays:
    """Relays with the relay's own login."""
    return Relays(database.relay_dsn, valkey_server.url)


@pytest.fixture
async def owner_relays(database: Database, valkey_server: ValkeyServer) -> Relays:
    """Relays with a login that also owns the tables."""
    return Relays(database.dsn, valkey_server.url)
