"""Commit to client: how long after its commit a change is read by each of 100 clients.

The writer notes the clock right after its COMMIT has returned; every client notes it when the frame
has been read. Both are one process, so it is one clock, and its share of the machine is part of the
figure. Beside it, in the same run, a plain LISTEN on the same server hears of each commit by a
NOTIFY with the row's id, which is the least that Postgres itself needs.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final

import asyncpg

from bench.report import Report, Row, percentile
from bench.stack import BenchStack, read_stream

CLIENTS: Final = 100
_USER: Final = "00000000-0000-4000-8000-{:012d}"
_SCHEMA: Final = """
CREATE TABLE public.posts (
    id bigint PRIMARY KEY,
    author_id uuid NOT NULL,
    title text NOT NULL,
    published boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.posts TO ayb_authenticated;
CREATE POLICY readable ON public.posts FOR SELECT TO ayb_authenticated
    USING (published OR author_id = current_setting('ayb.user_id')::uuid)
"""
_INSERT: Final = """
WITH written AS (
    INSERT INTO public.posts (id, author_id, title, published)
    VALUES ($1, '00000000-0000-4000-8000-000000000001', 'New Post', true)
    RETURNING id
)
SELECT pg_notify('bench', id::text) FROM written
"""


class _Clocks:
    """When each change was committed, heard by LISTEN, and read by each client."""

    def __init__(self) -> None:
        self.committed: dict[int, float] = {}
        self.heard: dict[int, float] = {}
        self.read: list[tuple[int, float]] = []
        self.missing = 0
        self.done = asyncio.Event()

    def expect(self, changes: int) -> None:
        self.committed.clear()
        self.heard.clear()
        self.read.clear()
        self.missing = changes * CLIENTS
        self.done.clear()

    def on_data(self, line: bytes) -> None:
        now = time.perf_counter()
        self.read.append((json.loads(line)["record"]["id"], now))
        self.missing -= 1
        if not self.missing:
            self.done.set()

    def on_notify(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.heard[int(str(payload))] = time.perf_counter()


def run(*, quick: bool) -> Report:
    """Measure at 1, 100 and 1,000 changes a second; fails if any client misses any change."""
    report = Report("latency")
    asyncio.run(_measure(report, quick=quick))
    return report


async def _measure(report: Report, *, quick: bool) -> None:
    async with BenchStack(_SCHEMA) as stack, asyncio.TaskGroup() as group:
        clocks = _Clocks()
        events = [asyncio.Event() for _ in range(CLIENTS)]
        readers = [
            group.create_task(
                read_stream(
                    stack.port,
                    f"/api/realtime?tables=posts&token={stack.token(_USER.format(number))}",
                    clocks.on_data,
                    event,
                )
            )
            for number, event in enumerate(events)
        ]
        for event in events:
            await event.wait()
        listener = await asyncpg.connect(stack.postgres.dsn())
        await listener.add_listener("bench", clocks.on_notify)
        writer = await asyncpg.connect(stack.postgres.dsn())
        first = 1
        for rate, seconds in ((1, 6 if quick else 30), (100, 5 if quick else 20),
                              (1000, 4 if quick else 10)):  # fmt: skip
            changes = rate * seconds
            clocks.expect(changes)
            await _write(writer, clocks, first, changes, rate)
            async with asyncio.timeout(60):
                await clocks.done.wait()
            _check(clocks, first, changes)
            first += changes
            _report(report, clocks, rate)
        for task in readers:
            task.cancel()
        await listener.close()
        await writer.close()


async def _write(
    writer: asyncpg.Connection, clocks: _Clocks, first: int, changes: int, rate: int
) -> None:
    insert = await writer.prepare(_INSERT)
    began = time.perf_counter()
    for number in range(changes):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        await insert.fetchval(first + number)
        clocks.committed[first + number] = time.perf_counter()


def _check(clocks: _Clocks, first: int, changes: int) -> None:
    counted: dict[int, int] = {}
    for number, _ in clocks.read:
        counted[number] = counted.get(number, 0) + 1
    if counted != dict.fromkeys(range(first, first + changes), CLIENTS):
        raise RuntimeError("a client missed a change or got one twice")


def _report(report: Report, clocks: _Clocks, rate: int) -> None:
    ours = _figures([at - clocks.committed[number] for number, at in clocks.read])
    heard = _figures([at - clocks.committed[number] for number, at in clocks.heard.items()])
    report.add(
        Row(
            f"{rate:,} changes/s, {CLIENTS} clients",
            ours,
            {"LISTEN (id only)": heard},
            ours["p50_ms"] / heard["p50_ms"] if heard["p50_ms"] > 0 else None,
        )
    )
    if rate == 1:
        report.expect(
            "commit to client at rest, p50",
            want="about 3 ms",
            got=f"{ours['p50_ms']:.2f} ms",
            holds=ours["p50_ms"] <= 4.5,
        )


def _figures(seconds: list[float]) -> dict[str, float]:
    return {
        f"p{round(share * 100)}_ms": percentile(seconds, share) * 1000
        for share in (0.5, 0.95, 0.99)
    }
