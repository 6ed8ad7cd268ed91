"""A client that keeps reconnecting with its position, and keeps a record of what it got."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from shared.position import Position, parse_position
from tests.support.fault_world import Told
from tests.support.ledger import Ledger
from tests.support.sse_client import Event, SseClient, StreamEndedError


class Reader:
    """One chain of connections of one user.

    `complaints` are facts that must not occur: an event twice or out of order, an invented one, a
    response that is neither a stream nor a refusal to retry. After a `resync` the record starts
    over; `since` is the transaction after which it must be complete.
    """

    def __init__(
        self,
        name: str,
        user: str,
        tables: frozenset[str],
        *,
        url: Callable[[], str],
        token: str,
        ledger: Ledger,
    ) -> None:
        self.name = name
        self.user = user
        self.tables = tables
        self.seen: set[Told] = set()
        self.since = 0
        self.resyncs: list[str] = []
        self.errors: list[str] = []
        self.complaints: list[str] = []
        self.connections = 0
        self.connected = asyncio.Event()
        self.moved = asyncio.Event()
        self.refused: list[int] = []
        self.failures: list[str] = []
        self.closings: list[int] = []
        self._url = url
        self._token = token
        self._ledger = ledger
        self._position = Position(0, 0)
        self._versions: dict[tuple[str, int], int] = {}
        self._last_event_id = ""
        self._client: SseClient | None = None
        self._chance = random.Random(name)

    @property
    def last_event_id(self) -> str:
        """The position to send next."""
        return self._last_event_id

    def cut(self) -> None:
        """Cut the socket, if there is one."""
        if self.connected.is_set() and self._client is not None:
            self._client.cut()

    async def run(self) -> None:
        """Read until cancelled."""
        failures = 0
        while True:
            try:
                if await self._read():
                    failures = 0
            except (OSError, StreamEndedError, AssertionError) as error:
                self.failures.append(repr(error))
            self.connected.clear()
            failures += 1
            await asyncio.sleep(self._chance.uniform(0.02, min(0.05 * 2**failures, 0.5)))

    async def _read(self) -> bool:
        """Read one connection to its end; return whether it became a stream."""
        client = SseClient(
            self._url(),
            token=self._token,
            last_event_id=self._last_event_id,
            tables=",".join(sorted(self.tables)),
        )
        self._client = client
        streaming = False
        try:
            await client.open()
            if client.status != 200:
                self.refused.append(client.status)
                if client.status not in {502, 503, 504}:
                    self.complaints.append(f"status {client.status}")
                return False
            while True:
                event = await client.next(3600)
                if event.type == "busy":
                    self.refused.append(event.json()["code"])
                    return False
                streaming = True
                self._take(event)
                client.raw.clear()
                client.events.clear()
        except StreamEndedError:
            return streaming
        finally:
            self._client = None
            self._last_event_id = client.last_event_id
            if client.parser.retry_milliseconds is not None and streaming:
                self.closings.append(client.parser.retry_milliseconds)
            if hasattr(client, "_writer"):
                await client.close()

    def _take(self, event: Event) -> None:
        match event.type:
            case "connected":
                self.connections += 1
                self.connected.set()
            case "resync":
                self.resyncs.append(event.data)
                self.seen.clear()
                self._versions.clear()
                self._position = Position(0, 0)
                self.since = self._ledger.begun
            case "message":
                self._account(event)
            case "error":
                self.errors.append(event.data)
        self.moved.set()

    def _account(self, event: Event) -> None:
        position = parse_position(event.id)
        if position <= self._position:
            self.complaints.append(f"position {event.id} is not after {self._position}: {event}")
        self._position = position
        body = event.json()
        table, action, record = body["table"], body["action"], body["record"]
        told: Told = (table, action, record["id"], record.get("stamp", 0))
        if told in self.seen:
            self.complaints.append(f"twice: {event}")
        self.seen.add(told)
        row = (table, record["id"])
        if action == "delete":
            self._versions[row] = 1 << 62
            return
        if record["version"] <= self._versions.get(row, -1):
            self.complaints.append(f"out of order, after {self._versions[row]}: {event}")
        self._versions[row] = record["version"]
