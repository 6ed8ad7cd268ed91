"""The gateway's connection to Redis: ticks, and the table messages before them.

The bus only makes delivery fast. Whatever it loses is found by the batch numbers (see
`gateway.fanout.backlog`), and nothing it says decides who may see what. A message that is
malformed, of another format, under a wrong signature, or on a channel it does not belong to is
counted and dropped.

Redis pub/sub ignores database numbers, so several deployments may meet on one server. The names of
the channels begin with a prefix made from the identity of the log's history, and every message
carries that identity: a message of another history is counted and dropped, whatever channel it came
on.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final, cast

import structlog

from gateway.fanout.pending_tables import PendingTables
from gateway.fanout.staleness import TICK_SECONDS
from shared import signature
from shared.backoff import Backoff
from shared.change import decode_table_message, decode_tick, memory_bytes
from shared.channels import Channels
from shared.compression import decompress
from shared.errors import BusMessageError, DatabaseUnavailableError, first_error
from shared.redis import UNAVAILABLE, close_client, describe, follow_master, redis_client
from shared.tracing import NO_TRACING

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.client import PubSub
    from redis.asyncio.connection import AbstractConnection

    from gateway.fanout.backlog import Backlog
    from gateway.metrics import GatewayMetrics
    from shared.change import Tick
    from shared.tracing import Tracing

log = structlog.get_logger(__name__)

SILENCE_SECONDS: Final = 3.0
"""How long Redis may take to answer, or to send anything."""

_MOST_PENDING_BYTES: Final = 16 * 1024 * 1024
_POLL_SECONDS: Final = 0.5
_LOGGED_APART_SECONDS: Final = 10.0


class ForeignMessageError(BusMessageError):
    """It comes from the relay of another database.

    Two deployments use the same AYB_REALTIME_CHANNEL_PREFIX on one Redis server: give each its own.
    """


class _HistoryChangedError(Exception):
    """The log is another one than the one whose channels are subscribed to."""


class Bus:
    """Subscribes to the tick channel and to the channels of the tables that clients want."""

    def __init__(
        self,
        url: str,
        *,
        key: bytes | None,
        channel_prefix: str | None,
        backlog: Backlog,
        metrics: GatewayMetrics,
        on_tick: Callable[[Tick], object] = lambda _: None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._tracing = tracing
        self._url = url
        self._key = key
        self._channel_prefix = channel_prefix
        self._backlog = backlog
        self._metrics = metrics
        self._notify_tick = on_tick
        self._history = ""
        self._channels = Channels("")
        self._tables: set[str] = set()
        self._changed = asyncio.Event()
        self._pending = PendingTables(most_bytes=_MOST_PENDING_BYTES)
        self._ticked_at = float("-inf")
        self._logged_at = float("-inf")
        self._trouble = ""
        self._received = 0

    @property
    def is_pushing(self) -> bool:
        """Whether ticks arrive; otherwise batches are found by polling."""
        return time.monotonic() - self._ticked_at < TICK_SECONDS

    def subscribe(self, table: str) -> None:
        """Subscribe to a table's channel soon; until then ticks have its content read."""
        self._tables.add(table)
        self._changed.set()

    def unsubscribe(self, table: str) -> None:
        """Unsubscribe from a table's channel soon."""
        self._tables.discard(table)
        self._changed.set()

    async def run(self) -> None:
        """Listen until cancelled, across disconnections."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_connected(), name="bus listen")
            group.create_task(self._poll_while_silent(), name="bus poll")

    async def _stay_connected(self) -> None:
        backoff = Backoff(most_seconds=2.0)
        while True:
            try:
                await self._listen(backoff)
            except* UNAVAILABLE as group:
                error = describe(first_error(group), self._url)
                if error != self._trouble:
                    log.warning("redis unavailable", error=error)
                self._trouble = error
            except* _HistoryChangedError:
                log.warning("the read database has another history: subscribing to its channels")
            self._metrics.bus_connected.set(0)
            self._pending.clear()
            await asyncio.sleep(backoff.next_seconds())

    async def _listen(self, backoff: Backoff) -> None:
        client = redis_client(self._url, answer_seconds=None)
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await client.ping()  # a wrong URL is reported while the database is away too
            self._history = await self._backlog.history_other_than(None)
            self._channels = Channels.of(self._history, self._channel_prefix)
            pubsub = client.pubsub(ignore_subscribe_messages=True)
            async with asyncio.timeout(SILENCE_SECONDS):
                await pubsub.subscribe(self._channels.tick)
            self._changed.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_subscriptions(pubsub), name="bus subscriptions")
                group.create_task(self._receive(pubsub, backoff), name="bus receive")
                group.create_task(self._end_when_silent(pubsub), name="bus silence")
                group.create_task(self._end_with_history(), name="bus history")
                group.create_task(follow_master(client), name="bus master")
        finally:
            await close_client(client)

    async def _end_with_history(self) -> None:
        await self._backlog.history_other_than(self._history)
        raise _HistoryChangedError

    async def _keep_subscriptions(self, pubsub: PubSub) -> None:
        have: set[str] = set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = {self._channels.table(table) for table in self._tables}
            missing, surplus = wanted - have, have - wanted
            async with asyncio.timeout(SILENCE_SECONDS):
                if missing:
                    await pubsub.subscribe(*missing)
                if surplus:
                    await pubsub.unsubscribe(*surplus)
            have = wanted
            # The comings and goings of many clients are answered together.
            await asyncio.sleep(0.02)

    async def _receive(self, pubsub: PubSub, backoff: Backoff) -> None:
        """Take in messages as they come.

        They are read from the connection: the reader of `PubSub` sets a timer, a retry and a
        record of its own for each, twice the work of reading it.
        """
        reader = cast("AbstractConnection", pubsub.connection)
        is_connected = False
        while True:
            response = await reader.read_response(
                timeout=math.inf, disconnect_on_error=False, push_request=True
            )
            self._received += 1
            if not is_connected:
                is_connected = True
                self._metrics.bus_connected.set(1)
                log.info("redis connected")
                self._trouble = ""
                backoff.reset()
            if response[0] == b"message":
                self._on_message(response[1], response[2])
            else:
                await pubsub.handle_message(response)  # type: ignore[no-untyped-call]

    async def _end_when_silent(self, pubsub: PubSub) -> None:
        """Ask a server that sends nothing for a sign of life; raise `TimeoutError` without one."""
        while True:
            received = self._received
            await asyncio.sleep(SILENCE_SECONDS)
            if self._received > received:
                continue
            async with asyncio.timeout(SILENCE_SECONDS):
                await pubsub.ping()
            await asyncio.sleep(2 * SILENCE_SECONDS)
            if self._received == received:
                raise TimeoutError("redis is silent")

    def _on_message(self, of_channel: bytes, data: bytes) -> None:
        channel = of_channel.decode("utf-8", "replace")
        try:
            if self._key is not None:
                data = signature.verify(self._key, channel, data)
            if channel == self._channels.tick:
                self._on_tick(data)
            else:
                self._on_table(channel, data)
        except ForeignMessageError as error:
            self._metrics.bus_foreign.inc()
            self._log_dropped(channel, error)
        except BusMessageError as error:
            self._metrics.bus_dropped.inc()
            self._log_dropped(channel, error)

    def _on_tick(self, data: bytes) -> None:
        began_at = time.time()
        tick = decode_tick(data)
        self._check_history(tick.history)
        if not self.is_pushing:
            log.info("ticks arrive", batch=tick.batch)
        self._ticked_at = time.monotonic()
        self._notify_tick(tick)
        tables, cost = self._pending.take((tick.epoch, tick.batch))
        self._backlog.on_tick(tick, tables, memory_bytes(0, len(tick.tables)) + cost)
        if tick.trace and tables:
            self._tracing.span(
                "receive",
                {"ayb.batch": tick.batch, "ayb.tables": len(tables), "ayb.bytes": cost},
                trace=tick.trace,
                kind="consumer",
                began_ns=int(began_at * 1e9),
            ).end()

    def _on_table(self, channel: str, data: bytes) -> None:
        data = decompress(data)
        message = decode_table_message(data)
        self._check_history(message.history)
        if self._channels.table(message.content.table) != channel:
            raise BusMessageError(f"about {message.content.table}, which has another channel")
        self._pending.add(message, len(data))

    def _check_history(self, history: str) -> None:
        if history != self._history:
            raise ForeignMessageError

    def _log_dropped(self, channel: str, error: BusMessageError) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOGGED_APART_SECONDS:
            self._logged_at = now
            log.warning("bus message dropped", channel=channel[:200], error=str(error))

    async def _poll_while_silent(self) -> None:
        """Read the outbox while no ticks arrive (relay or Redis down): late, never lost."""
        was_pushing = True
        unreadable = ""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if self.is_pushing:
                was_pushing = True
                continue
            if was_pushing:
                was_pushing = False
                log.warning("no ticks: polling the outbox")
            try:
                await self._backlog.refresh()
            except DatabaseUnavailableError as error:
                if str(error) != unreadable:
                    unreadable = str(error)
                    log.warning("outbox not readable", error=unreadable)
            else:
                unreadable = ""
