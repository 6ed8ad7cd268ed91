"""The gateway's ear on Redis: ticks, and the table messages before them.

The bus only makes things fast. Whatever it loses is found by the numbers (see
`gateway.fanout.backlog`), and nothing it says decides who may see what. A message that is
malformed, of another format, under a wrong signature, or on a channel it does not belong to is
counted and dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared import channels, signature
from shared.backoff import Backoff
from shared.change import TableChanges, decode_table_message, decode_tick
from shared.errors import BusMessageError, DatabaseUnavailableError, first_error
from shared.redis import UNAVAILABLE, redis_client

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

    from gateway.fanout.backlog import Backlog
    from gateway.metrics import GatewayMetrics

log = structlog.get_logger(__name__)

SILENCE_SECONDS: Final = 3.0
"""Relays tick every second; after this long without a tick the gateway polls by itself."""

_MOST_OPEN_BATCHES: Final = 64
_POLL_SECONDS: Final = 0.5


class Bus:
    """Listens on the tick channel and on the channels of wanted tables."""

    def __init__(
        self, url: str, *, key: bytes | None, backlog: Backlog, metrics: GatewayMetrics
    ) -> None:
        self._url = url
        self._key = key
        self._backlog = backlog
        self._metrics = metrics
        self._wanted: set[str] = set()
        self._changed = asyncio.Event()
        self._open: OrderedDict[tuple[int, int], dict[int, tuple[TableChanges, int]]] = (
            OrderedDict()
        )
        self._ticked_at = float("-inf")
        self._connected = False

    @property
    def is_pushing(self) -> bool:
        """Whether ticks come; else batches are found by polling."""
        return time.monotonic() - self._ticked_at < SILENCE_SECONDS

    def subscribe(self, table: str) -> None:
        """Listen to a table's channel from soon on; until then its content is read by the tick."""
        self._wanted.add(channels.table_channel(table))
        self._changed.set()

    def unsubscribe(self, table: str) -> None:
        """Stop listening to a table's channel."""
        self._wanted.discard(channels.table_channel(table))
        self._changed.set()

    async def run(self) -> None:
        """Listen for ever, over disconnections."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen_for_ever(), name="bus listen")
            group.create_task(self._poll_while_silent(), name="bus poll")

    async def _listen_for_ever(self) -> None:
        backoff = Backoff(most_seconds=2.0)
        while True:
            try:
                await self._listen(backoff)
            except* UNAVAILABLE as group:
                log.warning("redis unavailable", error=str(first_error(group)))
            self._connected = False
            self._metrics.bus_connected.set(0)
            self._open.clear()
            await asyncio.sleep(backoff.next_seconds())

    async def _listen(self, backoff: Backoff) -> None:
        client = redis_client(self._url, answer_seconds=None)
        try:
            pubsub = client.pubsub(ignore_subscribe_messages=True)
            async with asyncio.timeout(SILENCE_SECONDS):
                await pubsub.subscribe(channels.TICK)
            self._changed.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_subscriptions(pubsub), name="bus subscriptions")
                group.create_task(self._receive(pubsub, backoff), name="bus receive")
        finally:
            try:
                async with asyncio.timeout(1.0):
                    await client.aclose()
            except UNAVAILABLE:
                pass

    async def _keep_subscriptions(self, pubsub: PubSub) -> None:
        have: set[str] = set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            missing, surplus = self._wanted - have, have - self._wanted
            async with asyncio.timeout(SILENCE_SECONDS):
                if missing:
                    await pubsub.subscribe(*missing)
                if surplus:
                    await pubsub.unsubscribe(*surplus)
            have |= missing
            have -= surplus
            # Come-and-go of many clients is answered together.
            await asyncio.sleep(0.02)

    async def _receive(self, pubsub: PubSub, backoff: Backoff) -> None:
        asked_at: float | None = None
        while True:
            message = await pubsub.get_message(timeout=SILENCE_SECONDS)
            now = time.monotonic()
            if message is None:
                if asked_at is None:
                    asked_at = now
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await pubsub.ping()
                elif now - asked_at > 2 * SILENCE_SECONDS:
                    raise TimeoutError("redis is silent")
                continue
            asked_at = None
            if not self._connected:
                self._connected = True
                self._metrics.bus_connected.set(1)
                log.info("redis connected")
                backoff.reset()
            if message["type"] == "message":
                await self._take(message)

    async def _take(self, message: dict[str, Any]) -> None:
        channel, data = message["channel"].decode("utf-8", "replace"), message["data"]
        try:
            if self._key is not None:
                data = signature.verify(self._key, channel, data)
            if channel == channels.TICK:
                await self._take_tick(data)
            else:
                self._take_table(channel, data)
        except BusMessageError as error:
            self._metrics.bus_dropped.inc()
            log.warning("bus message dropped", channel=channel, error=str(error))
        except DatabaseUnavailableError as error:
            # The tick will be repeated; nothing hangs on this one.
            log.warning("tick not followed", error=str(error))

    async def _take_tick(self, data: bytes) -> None:
        tick = decode_tick(data)
        if not self.is_pushing:
            log.info("ticks arrive", batch=tick.batch)
        self._ticked_at = time.monotonic()
        self._metrics.pushing.set(1)
        held = self._open.pop((tick.epoch, tick.batch), {})
        size = 200 + sum(size for _, size in held.values())
        await self._backlog.on_tick(
            tick, {relid: content for relid, (content, _) in held.items()}, size
        )

    def _take_table(self, channel: str, data: bytes) -> None:
        message = decode_table_message(data)
        content = message.content
        if channels.table_channel(content.table) != channel:
            raise BusMessageError(f"about {content.table}, which has another channel")
        held = self._open.setdefault((message.epoch, message.batch), {})
        held[content.relid] = (content, len(data))
        while len(self._open) > _MOST_OPEN_BATCHES:
            self._open.popitem(last=False)

    async def _poll_while_silent(self) -> None:
        """Without ticks (relay or Redis down) find the batches in the outbox: late, never lost."""
        was_pushing = True
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if self.is_pushing:
                was_pushing = True
                continue
            if was_pushing:
                was_pushing = False
                self._metrics.pushing.set(0)
                log.warning("no ticks: polling the outbox")
            try:
                await self._backlog.refresh()
            except DatabaseUnavailableError as error:
                log.warning("outbox not readable", error=str(error))
