"""Publishing to several Redis servers: none delays another, and what is dropped is counted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from relay.metrics import RelayMetrics
from relay.publisher import Publisher
from shared.change import Batch, Change, Op, TableChanges, decode_tick
from shared.channels import Channels
from shared.redis import redis_client
from tests.integration.relay.conftest import eventually
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HISTORY = "0123456789abcdef"


def batch(number: int, size: int) -> Batch:
    """A batch with one change of about so many bytes."""
    image = msgspec.Raw(b'{"id":1,"body":"' + b"x" * size + b'"}')
    changes = (Change(0, number, Op.CREATE, image),)
    return Batch(1, number, 0, 0.0, (TableChanges("public.t", 1, ("id",), changes),))


@contextlib.asynccontextmanager
async def publishing(*urls: str, queue_bytes: int) -> AsyncIterator[tuple[Publisher, RelayMetrics]]:
    """A publisher whose targets are all up."""
    metrics = RelayMetrics()
    notes: dict[str, str | None] = {}
    publisher = Publisher(
        urls,
        key=None,
        channel_prefix=None,
        queue_bytes=queue_bytes,
        metrics=metrics,
        note=notes.__setitem__,
    )
    publisher.begin(HISTORY)
    task = asyncio.create_task(publisher.run())
    try:
        names = [url.removeprefix("redis://").partition("/")[0] for url in urls]
        await eventually(lambda: all(metrics.redis_up.labels(n)._value.get() for n in names))
        yield publisher, metrics
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def ticks_of(url: str) -> AsyncIterator[list[int]]:
    """The numbers of the ticks that arrive at a Redis."""
    client = redis_client(url, answer_seconds=None)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(Channels.of(HISTORY, None).tick)
    await pubsub.ping()
    numbers: list[int] = []

    async def listen() -> None:
        async for message in pubsub.listen():
            if message["type"] == "message":
                numbers.append(decode_tick(message["data"]).batch)

    task = asyncio.create_task(listen())
    try:
        yield numbers
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pubsub.aclose()
        await client.aclose()


async def arrives(numbers: list[int], number: int) -> None:
    """Wait for a tick."""
    await eventually(lambda: numbers and numbers[-1] == number)


async def test_everything_arrives_in_order(valkey_server):
    """Batches that are sent without waiting for answers arrive in their order, and are counted."""
    async with (
        ticks_of(valkey_server.url) as numbers,
        publishing(valkey_server.url, queue_bytes=2**26) as (publisher, metrics),
    ):
        for number in range(1, 2_001):
            publisher.publish(batch(number, 1_000))
            if number % 100 == 0:
                await publisher.room()
                await asyncio.sleep(0)
        await eventually(lambda: len(numbers) == 2_000)
        assert numbers == list(range(1, 2_001))
        name = valkey_server.url.removeprefix("redis://").partition("/")[0]
        assert metrics.published.labels(name)._value.get() == 4_000
        assert metrics.unpublished.labels(name)._value.get() == 0


async def test_slow_region_stalls_no_other(valkey_server):
    """While one of two targets swallows everything, the other gets every batch, nothing waits for
    the slow one, its queue is bounded, and each batch it missed is counted.
    """
    async with (
        Proxy(valkey_server.port) as proxy,
        ticks_of(valkey_server.url) as numbers,
        publishing(
            valkey_server.url, f"redis://127.0.0.1:{proxy.port}/0", queue_bytes=1_000_000
        ) as (publisher, metrics),
    ):
        proxy.discard()
        slow = f"127.0.0.1:{proxy.port}"
        for number in range(1, 101):
            publisher.publish(batch(number, 50_000))
            with pytest.raises(StopIteration):
                publisher.room().send(None)  # ends without having waited
            await arrives(numbers, number)
            assert metrics.queue_bytes.labels(slow)._value.get() < 2_000_000
        assert numbers == list(range(1, 101))
        await eventually(lambda: metrics.unpublished.labels(slow)._value.get() == 100)


async def test_what_waits_too_long_is_dropped(valkey_server):
    """A queue that is not full is dropped when its oldest message has waited too long."""
    async with (
        Proxy(valkey_server.port) as proxy,
        publishing(f"redis://127.0.0.1:{proxy.port}/0", queue_bytes=2**26) as (publisher, metrics),
    ):
        proxy.discard()
        slow = f"127.0.0.1:{proxy.port}"
        for number in range(1, 11):
            publisher.publish(batch(number, 100_000))
        await asyncio.sleep(2)
        publisher.publish(batch(11, 100))
        assert metrics.unpublished.labels(slow)._value.get() > 0
        assert metrics.redis_up.labels(slow)._value.get() == 1


async def test_region_that_gets_ticks_only(valkey_server):
    """A target named by its region gets the announcement of each batch without its content, beside
    one that gets all.
    """
    channels = Channels.of(HISTORY, None)
    far = f"{valkey_server.url}?region=far&content=ticks"
    client = redis_client(valkey_server.url)
    try:
        async with (
            ticks_of(valkey_server.url) as numbers,
            client.pubsub(ignore_subscribe_messages=True) as tables,
        ):
            await tables.subscribe(channels.table("public.t"))
            metrics = RelayMetrics()
            publisher = Publisher(
                [far],
                key=None,
                channel_prefix=None,
                queue_bytes=2**20,
                metrics=metrics,
                note=lambda *_: None,
            )
            publisher.begin(HISTORY)
            task = asyncio.create_task(publisher.run())
            await eventually(lambda: publisher.targets_up == 1)
            publisher.publish(batch(1, 10_000))
            await arrives(numbers, 1)
            assert await tables.get_message(timeout=0.2) is None
            await eventually(lambda: metrics.published.labels("far")._value.get() == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await client.aclose()


async def test_idle_target_that_is_away_is_noticed(valkey_server):
    """A standby publishes nothing, and still knows which Redis servers it reaches."""
    async with (
        Proxy(valkey_server.port) as proxy,
        publishing(f"redis://127.0.0.1:{proxy.port}/0", queue_bytes=2**20) as (publisher, _),
    ):
        proxy.refuse()
        await eventually(lambda: publisher.targets_up == 0)
        proxy.heal()
        await eventually(lambda: publisher.targets_up == 1)
