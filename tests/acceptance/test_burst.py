"""A very large transaction: memory is bounded, nothing is lost, and other tables go on."""

from __future__ import annotations

import asyncio
import io
import re
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.stack import Stack

ROWS = 200_000
CLIENTS = 10
TABLES = """
    CREATE TABLE flood (id bigint PRIMARY KEY, body text NOT NULL);
    CREATE TABLE calm (id bigint PRIMARY KEY);
    GRANT SELECT ON flood, calm TO ayb_authenticated;
"""
CALM = 50
OWNERS = 100
EACH = 5_000
OWNED = """
    CREATE TABLE owned (id bigint, owner text, body text NOT NULL, PRIMARY KEY (owner, id));
    ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON owned TO ayb_authenticated;
    CREATE POLICY own ON owned USING (owner = current_setting('ayb.user_id'));
"""
_ID = re.compile(rb'"id":(\d+)')


class Counter(asyncio.Protocol):
    """Counts the frames of a stream and checks the order of ids, without parsing JSON."""

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
        whole, end, self._rest = (self._rest + data).rpartition(b"\n\n")
        text = whole + end
        numbers = list(map(int, _ID.findall(text)))
        if numbers:
            self.is_in_order &= numbers == list(range(self.last + 1, self.last + 1 + len(numbers)))
            self.last = numbers[-1]
        if b"event: connected" in text:
            self.live.set()
        if b"event: resync" in text:
            self.is_in_order = False
        if self._wanted and self.last >= self._wanted:
            self.done.set()


class Memory:
    """The most that each process has grown."""

    def __init__(self, stack: Stack) -> None:
        pids = {name: stack.child(name).pid for name in ("relay", "gateway")}
        self._processes = {
            name: psutil.Process(pid) for name, pid in {**pids, "redis": stack.valkey.pid}.items()
        }
        self._before = self._now()
        self._peak = dict(self._before)

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            for name, size in self._now().items():
                self._peak[name] = max(self._peak[name], size)
            await asyncio.sleep(0.1)

    def assert_bounded(self) -> None:
        """The relay holds at most its queue, the gateway its ring, Redis what waits for a
        subscriber.
        """
        grown = {name: (self._peak[name] - self._before[name]) / 2**20 for name in self._peak}
        print("grown by", ", ".join(f"{size:.0f} MiB ({name})" for name, size in grown.items()))
        assert grown["relay"] < 100
        assert grown["gateway"] < 250
        assert grown["redis"] < 100

    def _now(self) -> dict[str, int]:
        return {name: process.memory_info().rss for name, process in self._processes.items()}


async def follow(stack: Stack, table: str, rows: int, user: str | None = None) -> Counter:
    path = f"/api/realtime?tables={table}&token={stack.token(user)}"
    port = int(stack.gateway_url.rpartition(":")[2])
    loop = asyncio.get_running_loop()
    _, counter = await loop.create_connection(lambda: Counter(path), "127.0.0.1", port)
    counter.expect(rows)
    await asyncio.wait_for(counter.live.wait(), 10)
    return counter


async def others_go_on(stack: Stack, calm: Counter, bursting: Sequence[Counter]) -> None:
    """Write to another table too, and check that its client gets the rows before the burst ends."""
    async with stack.database.connect() as connection:
        for n in range(1, CALM + 1):
            await connection.execute("INSERT INTO calm VALUES ($1)", n)
            await asyncio.sleep(0.02)
    async with asyncio.timeout(300):
        await calm.done.wait()
        waiting = sum(not counter.done.is_set() for counter in bursting)
        began = time.monotonic()
        for counter in bursting:
            await counter.done.wait()
    print(
        f"{waiting} of {len(bursting)} were still being told of the burst when the others were "
        f"done, for {time.monotonic() - began:.1f} s"
    )
    assert all(counter.is_in_order for counter in (*bursting, calm))
    for counter in (*bursting, calm):
        counter.transport.abort()


async def test_copy_of_very_many_rows(start_stack: Any) -> None:
    """A COPY of 200,000 rows reaches everyone in order; memory is bounded, other tables go on."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_VERIFY": "0"})
    await stack.create(TABLES, "flood", "calm")
    flooded = [await follow(stack, "flood", ROWS) for _ in range(CLIENTS)]
    calm = await follow(stack, "calm", CALM)
    memory = Memory(stack)
    text = "".join(f"{n}\t{'x' * 100}\n" for n in range(1, ROWS + 1)).encode()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(memory.watch())
        async with stack.database.connect() as connection:
            await connection.copy_to_table("flood", source=io.BytesIO(text))
        await others_go_on(stack, calm, flooded)
        watching.cancel()
    memory.assert_bounded()


async def test_half_a_million_rows_for_a_hundred_clients(start_stack: Any) -> None:
    """A transaction of 500,000 rows reaches each of 100 clients, complete and in order; memory is
    bounded, and other tables go on meanwhile.
    """
    stack: Stack = await start_stack(
        gateway={"AYB_REALTIME_VERIFY": "0", "AYB_REALTIME_MAX_CONNECTIONS_PER_USER": "200"}
    )
    await stack.create(TABLES, "flood", "calm")
    rows = OWNERS * EACH
    flooded = [await follow(stack, "flood", rows) for _ in range(OWNERS)]
    calm = await follow(stack, "calm", CALM)
    memory = Memory(stack)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(memory.watch())
        await stack.sql(
            "INSERT INTO flood SELECT g, repeat('x', 100) FROM generate_series(1, $1::int) g", rows
        )
        await others_go_on(stack, calm, flooded)
        watching.cancel()
    memory.assert_bounded()


async def test_half_a_million_rows_of_a_hundred_owners(start_stack: Any) -> None:
    """A transaction of 500,000 rows is judged for 100 clients, and each gets its 5,000 in order;
    memory is bounded, and other tables go on meanwhile.
    """
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_VERIFY": "0"})
    await stack.create(TABLES + OWNED, "calm", "owned")
    owners = [await follow(stack, "owned", EACH, f"user-{n}") for n in range(OWNERS)]
    calm = await follow(stack, "calm", CALM)
    memory = Memory(stack)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(memory.watch())
        await stack.sql(
            "INSERT INTO owned SELECT 1 + g / $1::int, 'user-' || g % $1::int, repeat('x', 100) "
            "FROM generate_series(0, $1::int * $2::int - 1) g", OWNERS, EACH,
        )  # fmt: skip
        await others_go_on(stack, calm, owners)
        watching.cancel()
    memory.assert_bounded()
