"""Ten thousand clients reconnect at once: what each receives, and what it costs the database."""

from __future__ import annotations

import asyncio
import re
import resource
import time
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.requirements import Requirements

HERD = 10_000
FILES = HERD + 1_000
AT_ONCE = 200
MISSED = 30
QUESTIONS = 1_000
"""The most transactions for all of them: one each would be ten thousand. Clients who come within
the same moment share one, so that there are more of them where the machine is busy and the herd
takes longer: 300 to 500 were counted."""

SQL = """
    CREATE TABLE posts (id int PRIMARY KEY, author uuid, published boolean);
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON posts TO ayb_authenticated;
    CREATE POLICY readers ON posts
        USING (published OR author = current_setting('ayb.user_id')::uuid);
"""
_ID = re.compile(rb'"id":(\d+)')


class Returning(asyncio.Protocol):
    """A client that reconnects with a position and waits for a row that everyone sees."""

    def __init__(self, request: bytes, last: int, settled: Callable[[], None]) -> None:
        self._request = request
        self._last = last
        self._settled = settled
        self.got = bytearray()
        self.is_complete = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.got += data
        if not self.is_complete and b'"id":%d,' % self._last in self.got:
            self.is_complete = True
            self._settled()

    @property
    def ids(self) -> list[int]:
        """The rows it received, in order."""
        return [int(id_) for id_ in _ID.findall(bytes(self.got))]


async def come_back(
    stack: Stack, requests: Sequence[bytes], last: int
) -> tuple[list[Returning], float]:
    """Open all streams, a few hundred at a time; return when each has received the last row."""
    loop = asyncio.get_running_loop()
    host, port = "127.0.0.1", int(stack.gateway_url.rpartition(":")[2])
    left, done, slots = len(requests), asyncio.Event(), asyncio.Semaphore(AT_ONCE)

    def settled() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async def open_(request: bytes) -> Returning:
        async with slots:
            _, client = await loop.create_connection(
                lambda: Returning(request, last, settled), host, port
            )
            return client

    began = time.monotonic()
    clients = await asyncio.gather(*(open_(request) for request in requests))
    async with asyncio.timeout(120):
        await done.wait()
    return clients, time.monotonic() - began


async def transactions(admin: asyncpg.Connection, stack: Stack) -> int:
    """Count the transactions of the test's database; backends report within a second."""
    await asyncio.sleep(1.5)
    if admin.get_server_version().major >= 15:
        await admin.execute("SELECT pg_stat_force_next_flush()")
    counted: int = await admin.fetchval(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1",
        stack.database.name,
    )
    return counted


async def test_a_herd_costs_a_handful_of_queries(
    start_stack: Any, postgres_server: Any, require: Requirements
) -> None:
    """10,000 users who reconnect within seconds get what each missed, for a handful of queries:
    from the ring of a running gateway, and from the outbox after its restart.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    require.that(hard == resource.RLIM_INFINITY or hard >= FILES, f"ulimit -n {FILES} is refused")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_VERIFY": "0", "AYB_LOG_LEVEL": "info"})
    await stack.create(SQL, "posts")
    users = [str(uuid.uuid4()) for _ in range(HERD)]
    tokens = [stack.token(user) for user in users]
    admin = await asyncpg.connect(postgres_server.dsn())
    try:
        for first, restart in ((0, False), (1_000, True)):
            async with stack.stream("posts", token=tokens[0]) as client:
                await client.connected()
                position = client.last_event_id
            # Every third row is everybody's, each other one that of a user of its own.
            rows = [(first + n, users[n], n % 3 == 0 or n == MISSED - 1) for n in range(MISSED)]
            for row in rows:
                await stack.sql("INSERT INTO posts VALUES ($1, $2, $3)", *row)
            last = rows[-1][0]
            async with stack.stream("posts", token=tokens[0], last_event_id=position) as client:
                while (await client.next_message()).json()["record"]["id"] != last:
                    pass
            if restart:
                await stack.restart("gateway")
            await stack.stop("relay")
            before = await transactions(admin, stack)
            clients, seconds = await come_back(
                stack, [request(token, position) for token in tokens], last
            )
            asked = await transactions(admin, stack) - before
            for user, one in zip(users, clients, strict=True):
                assert one.ids == [id_ for id_, author, public in rows if public or author == user]
            print(f"\n{HERD} came back in {seconds:.1f} s at {asked} transactions")
            assert asked < QUESTIONS
            for one in clients:
                assert one.transport is not None
                one.transport.abort()
            await stack.start("relay")
    finally:
        await admin.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def request(token: str, position: str) -> bytes:
    """Ask for the stream after a position."""
    return (
        f"GET /api/realtime?tables=posts HTTP/1.1\r\nHost: x\r\n"
        f"Last-Event-ID: {position}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
