"""A transaction that writes very much at once: bounded memory, nothing lost, others go on."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.acceptance.stack import Stack

ROWS = 200_000
CLIENTS = 10
TABLES = """
    CREATE TABLE flood (id bigint PRIMARY KEY, body text NOT NULL);
    CREATE TABLE calm (id bigint PRIMARY KEY);
    GRANT SELECT ON flood, calm TO ayb_authenticated;
"""
OWNERS = 100
EACH = 5_000
OWNED = """
    CREATE TABLE owned (id bigint, owner text, body text NOT NULL, PRIMARY KEY (owner, id));
    ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON owned TO ayb_authenticated;
    CREATE POLICY own ON owned USING (owner = current_setting('ayb.user_id'));
"""


class Counter(asyncio.Protocol):
    """Counts the frames of a stream and keeps the ids' order in view, without parsing JSON."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = b""
        self._wanted = 0
        self.last = 0
        self.is_in_order = True
        self.live = asyncio.Event()
        self.done = asyncio.Event()

    def expect(self, rows: int) -> None:
        self._wanted = rows

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(f"GET {self._path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b'data: {"action"'):
                start = line.index(b'"id":') + 5
                end = start
                while line[end : end + 1].isdigit():
                    end += 1
                number = int(line[start:end])
                self.is_in_order &= number == self.last + 1
                self.last = number
            elif line == b"event: connected":
                self.live.set()
            elif line == b"event: resync":
                self.is_in_order = False
        if self._wanted and self.last >= self._wanted:
            self.done.set()


async def follow(stack: Stack, table: str, rows: int, user: str | None = None) -> Counter:
    path = f"/api/realtime?tables={table}&token={stack.token(user)}"
    port = int(stack.gateway_url.rpartition(":")[2])
    loop = asyncio.get_running_loop()
    _, counter = await loop.create_connection(lambda: Counter(path), "127.0.0.1", port)
    counter.expect(rows)
    await asyncio.wait_for(counter.live.wait(), 10)
    return counter


async def test_copy_of_very_many_rows(start_stack: Any) -> None:
    """A COPY of 200,000 rows reaches everybody in order; memory is bounded, others go on."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_VERIFY": "0"})
    await stack.create(TABLES, "flood", "calm")
    flooded = [await follow(stack, "flood", ROWS) for _ in range(CLIENTS)]
    calm = await follow(stack, "calm", 20)
    processes = [psutil.Process(stack.child(name).pid) for name in ("relay", "gateway")]
    before = [process.memory_info().rss for process in processes]
    peak = before[:]
    body = "x" * 100
    text = "".join(f"{n}\t{body}\n" for n in range(1, ROWS + 1)).encode()

    async def copy() -> None:
        async with stack.database.connect() as connection:
            await connection.copy_to_table("flood", source=io.BytesIO(text))

    async def look() -> None:
        while True:
            for n, process in enumerate(processes):
                peak[n] = max(peak[n], process.memory_info().rss)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        await copy()
        async with stack.database.connect() as connection:
            for n in range(1, 21):
                await connection.execute("INSERT INTO calm VALUES ($1)", n)
                await asyncio.sleep(0.05)
        async with asyncio.timeout(90):
            await calm.done.wait()
            waiting = sum(not counter.done.is_set() for counter in flooded)
            for counter in flooded:
                await counter.done.wait()
        looking.cancel()
    grown = [(most - first) / 2**20 for most, first in zip(peak, before, strict=True)]
    print(f"grown by {grown[0]:.0f} MiB (relay) and {grown[1]:.0f} MiB (gateway)")
    print(f"{waiting} of {CLIENTS} were still being told of the burst when the others were done")
    assert all(counter.is_in_order for counter in (*flooded, calm))
    assert grown[0] < 100
    assert grown[1] < 250
    for counter in (*flooded, calm):
        counter.transport.abort()


async def test_half_a_million_rows_for_a_hundred_clients(start_stack: Any) -> None:
    """A transaction of 500,000 rows is judged for 100 clients, each gets its 5,000 in order; memory
    is bounded, others go on meanwhile."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_VERIFY": "0"})
    await stack.create(TABLES + OWNED, "calm", "owned")
    clients = [await follow(stack, "owned", EACH, f"user-{n}") for n in range(OWNERS)]
    calm = await follow(stack, "calm", 50)
    processes = [psutil.Process(stack.child(name).pid) for name in ("relay", "gateway")]
    before = [process.memory_info().rss for process in processes]
    peak = before[:]

    async def look() -> None:
        while True:
            for n, process in enumerate(processes):
                peak[n] = max(peak[n], process.memory_info().rss)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        await stack.sql(
            "INSERT INTO owned SELECT 1 + g / $1::int, 'user-' || g % $1::int, repeat('x', 100) "
            "FROM generate_series(0, $1::int * $2::int - 1) g", OWNERS, EACH,
        )  # fmt: skip
        async with stack.database.connect() as connection:
            for n in range(1, 51):
                await connection.execute("INSERT INTO calm VALUES ($1)", n)
        async with asyncio.timeout(240):
            await calm.done.wait()
            waiting = sum(not counter.done.is_set() for counter in clients)
            for counter in clients:
                await counter.done.wait()
        looking.cancel()
    grown = [(most - first) / 2**20 for most, first in zip(peak, before, strict=True)]
    print(f"grown by {grown[0]:.0f} MiB (relay) and {grown[1]:.0f} MiB (gateway)")
    print(f"{waiting} of {OWNERS} were still being told of the burst when the others were done")
    assert all(counter.is_in_order for counter in (*clients, calm))
    assert grown[0] < 100
    assert grown[1] < 250
    for counter in (*clients, calm):
        counter.transport.abort()
