"""Announcing a leader on every Redis, and listening there for others (`relay.rivals`)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from relay.rivals import (
    ANNOUNCE_SECONDS,
    MOST_NAMED,
    SILENT_SECONDS,
    Announcement,
    Rivals,
    decode_announcement,
    describe,
)
from shared import signature
from shared.backoff import Backoff
from shared.change import FORMAT
from shared.channels import Channels
from shared.errors import BusMessageError
from shared.redis import UNAVAILABLE, close_client, heed_cancellation, redis_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.client import PubSub

    from relay.metrics import RelayMetrics
    from relay.publisher import Note, Publisher
    from relay.session.leader import Candidate

log = structlog.get_logger(__name__)


class RivalWatch:
    """Says so while another relay leads the same log."""

    def __init__(
        self,
        urls: Sequence[str],
        publisher: Publisher,
        candidate: Candidate,
        *,
        key: bytes | None,
        channel_prefix: str | None,
        metrics: RelayMetrics,
        note: Note,
    ) -> None:
        self._urls = urls
        self._publisher = publisher
        self._candidate = candidate
        self._key = key
        self._channel_prefix = channel_prefix
        self._metrics = metrics
        self._note = note
        self._rivals = Rivals(candidate.id)
        self._own: Announcement | None = None
        self._channel = ""
        self._leads = asyncio.Event()
        self._shown: set[str] = set()

    def begin(self, history: str, epoch: int) -> None:
        """Announce this relay as the leader from now on."""
        us = self._candidate
        self._own = Announcement(FORMAT, history, us.id, us.name, epoch)
        self._channel = Channels.of(history, self._channel_prefix).relays
        self._rivals.clear()
        self._leads.set()

    def end(self) -> None:
        """Stop announcing it."""
        self._own = None
        self._leads.clear()
        self._rivals.clear()
        self._show()

    async def run(self) -> None:
        """Announce and listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            for url in self._urls:
                group.create_task(self._stay_connected(url), name="listen for rivals")
            while True:
                await self._leads.wait()
                if self._own is not None:
                    self._publisher.send(self._channel, msgspec.json.encode(self._own))
                self._show()
                await asyncio.sleep(ANNOUNCE_SECONDS)

    async def _stay_connected(self, url: str) -> None:
        backoff = Backoff(most_seconds=5.0)
        while True:
            await self._leads.wait()
            client = redis_client(url, answer_seconds=None)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await self._listen(pubsub, backoff)
            except UNAVAILABLE as error:
                # The publisher says whether this Redis works. One whose ACL lets us publish but
                # not subscribe is not listened to.
                log.debug("not listening for other relays", error=str(error))
            finally:
                await close_client(client)
            heed_cancellation()
            await asyncio.sleep(backoff.next_seconds())

    async def _listen(self, pubsub: PubSub, backoff: Backoff) -> None:
        """Listen until this relay no longer leads; raises `TimeoutError` after a silence.

        This relay's own announcement comes back each second. Where it does not, the connection may
        be dead without an error, so another one is made.
        """
        async with asyncio.timeout(SILENT_SECONDS):
            await pubsub.subscribe(channel := self._channel)
        heard_at = time.monotonic()
        while self._channel == channel and self._leads.is_set():
            message = await pubsub.get_message(timeout=ANNOUNCE_SECONDS)
            now = time.monotonic()
            if message is not None:
                heard_at = now
                backoff.reset()
                self._on_message(message)
            elif now - heard_at >= SILENT_SECONDS:
                raise TimeoutError("nothing was heard")

    def _on_message(self, message: dict[str, Any]) -> None:
        data = message["data"]
        try:
            if self._key is not None:
                data = signature.verify(self._key, self._channel, data)
            announcement = decode_announcement(data)
        except BusMessageError:
            return
        if self._own is not None and announcement.history == self._own.history:
            self._rivals.on_announcement(announcement, time.monotonic())

    def _show(self) -> None:
        present = {rival.id: rival for rival in self._rivals.present(time.monotonic())}
        self._metrics.rivals.set(len(present))
        self._shown &= present.keys()
        added = [rival for id_, rival in present.items() if id_ not in self._shown]
        for rival in added[:MOST_NAMED]:
            self._shown.add(rival.id)
            if self._own is not None:
                log.error(
                    "another relay leads too: fence the old primary",
                    other=rival.name,
                    other_epoch=rival.epoch,
                    epoch=self._own.epoch,
                )
        self._note("rival", describe(list(present.values()), is_signed=self._key is not None))
