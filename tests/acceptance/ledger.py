"""What was committed, and what each client was told of it, over any number of connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from shared.postgres import UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.acceptance.stack import Stack

AUTHORS = tuple(f"00000000-0000-4000-8000-{number:012d}" for number in range(4))
"""Author n writes the rows whose number is n modulo 4."""

LEDGER = """
    CREATE TABLE ledger (
        id bigint PRIMARY KEY,
        author_id uuid NOT NULL,
        published boolean NOT NULL
    );
    ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON ledger TO ayb_authenticated;
    CREATE POLICY readable ON ledger FOR SELECT TO ayb_authenticated
        USING (published OR author_id = current_setting('ayb.user_id')::uuid);
"""
_INSERT = """
    INSERT INTO ledger
    SELECT g, ('00000000-0000-4000-8000-' || lpad((g % 4)::text, 12, '0'))::uuid, g % 3 = 0
    FROM generate_series($1::bigint, $2::bigint) AS g
    ON CONFLICT DO NOTHING
"""


def expected(author: int, changes: int) -> list[int]:
    """The rows that an author may see, in the order of their commits."""
    return [n for n in range(1, changes + 1) if n % 3 == 0 or n % 4 == author]


@dataclass
class Follower:
    """A client that comes back by itself and shows the last position it was told."""

    port: int
    query: str
    seen: list[int] = field(default_factory=list)
    resyncs: list[Any] = field(default_factory=list)
    connections: int = 0
    last: str | None = None
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    _writer: asyncio.StreamWriter | None = None

    async def follow(self) -> None:
        """Follow for ever."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._connect()
            await asyncio.sleep(random.uniform(0.02, 0.2))

    def cut(self) -> None:
        """Cut the socket, without a word to the other side."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _connect(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        try:
            shown = "" if self.last is None else f"Last-Event-ID: {self.last}\r\n"
            self._writer.write(
                f"GET /api/realtime?{self.query} HTTP/1.1\r\nHost: x\r\n{shown}\r\n".encode()
            )
            status = await reader.readline()
            if b" 200 " not in status:
                return
            self.connections += 1
            self.opened.set()
            await self._read(reader)
        finally:
            self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        event: bytes | None = None
        data: bytes | None = None
        position: str | None = None
        while line := await reader.readline():
            if line.startswith(b"id: "):
                position = line[4:].decode().strip()
            elif line.startswith(b"event: "):
                event = line[7:].strip()
            elif line.startswith(b"data: "):
                data = line[6:]
            elif line == b"\n":  # a frame counts when it is complete
                if event is None and data is not None:
                    self.seen.append(json.loads(data)["record"]["id"])
                    self.told.set()
                elif event == b"resync" and data is not None:
                    self.resyncs.append(json.loads(data))
                self.last = position or self.last
                event = data = None


class Ledger:
    """Writes rows 1 to `changes` in transactions of random size, and checks what arrived."""

    def __init__(self, stack: Stack, *, changes: int, seed: int) -> None:
        self._stack = stack
        self.changes = changes
        self.written = 0
        self._random = random.Random(seed)
        self._progress = asyncio.Condition()
        self.followers: list[Follower] = []
        print(f"seed {seed}")  # shown with a failure, to replay it

    @contextlib.asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[None]:
        """Let two clients for each author follow, and write meanwhile."""
        for author in AUTHORS * 2:
            token = self._stack.token(author)
            self.followers.append(Follower(port, f"tables=ledger&token={token}"))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(follower.follow()) for follower in self.followers]
            for follower in self.followers:
                await follower.opened.wait()
            writing = group.create_task(self._write())
            yield
            await writing
            await self._until_told()
            for task in tasks:
                task.cancel()

    async def until_written(self, share: float) -> None:
        """Wait until this share of the changes has been committed."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.written >= share * self.changes)

    def check(self, *, may_resync: bool = False) -> None:
        """Everybody was told exactly what he may see, once and in order."""
        for number, follower in enumerate(self.followers):
            due = expected(number % 4, self.changes)
            if follower.resyncs and may_resync:
                assert set(follower.seen) == set(due)
                continue
            assert not follower.resyncs, follower.resyncs
            missing = sorted(set(due) - set(follower.seen))
            foreign = sorted(set(follower.seen) - set(due))
            assert not foreign, f"client {number} was shown {foreign[:5]}"
            assert not missing, f"client {number} missed {len(missing)}: {missing[:5]}"
            assert len(follower.seen) == len(due), f"client {number} was told something twice"
            assert follower.seen == due, f"client {number} was told out of order"

    async def _write(self) -> None:
        connection: asyncpg.Connection | None = None
        while self.written < self.changes:
            last = min(self.changes, self.written + self._random.choice((1, 1, 2, 5, 20)))
            try:
                if connection is None:
                    connection = await asyncpg.connect(self._stack.database.dsn)
                # Asked again after an unclear end: ON CONFLICT makes it the same rows.
                await connection.execute(_INSERT, self.written + 1, last)
            except (asyncpg.PostgresError, *UNAVAILABLE):
                connection = None
                await asyncio.sleep(0.05)
                continue
            async with self._progress:
                self.written = last
                self._progress.notify_all()
            await asyncio.sleep(0.001)
        if connection is not None:
            await connection.close()

    async def _until_told(self) -> None:
        async with asyncio.timeout(60):
            for number, follower in enumerate(self.followers):
                due = len(expected(number % 4, self.changes))
                while len(follower.seen) < due or len(set(follower.seen)) < due:
                    follower.told.clear()
                    await follower.told.wait()
