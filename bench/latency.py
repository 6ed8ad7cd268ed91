"""Commit to client: how long after its commit a change is read by each of 100 clients.

The writer reads the clock right after its COMMIT has returned, and every client when it has read
the frame. Both run in one process, so they share one clock, and the process's own share of the
machine is part of the figure. In the same run a plain LISTEN on the same server receives a NOTIFY
with each row's id: the least time that Postgres itself needs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Final

import asyncpg

from bench.report import Report, Row, percentile
from bench.stack import POSTS, BenchStack, StreamReader, open_stream

CLIENTS: Final = 100
_WARM_UP: Final = 10
_USER: Final = "00000000-0000-4000-8000-{:012d}"
_INSERT: Final = """
WITH written AS (
    INSERT INTO public.posts (id, author_id, title, published)
    VALUES ($1, '00000000-0000-4000-8000-000000000001', 'New Post', true)
    RETURNING id
)
SELECT pg_notify('bench', id::text) FROM written
"""


def run(*, quick: bool) -> Report:
    """Measure at 1, 100 and 1,000 changes a second; fails if any client misses any change."""
    report = Report("latency")
    asyncio.run(_measure(report, quick=quick))
    return report


async def _measure(report: Report, *, quick: bool) -> None:
    async with BenchStack(POSTS) as stack:
        streams = [
            await open_stream(
                stack.port,
                f"/api/realtime?tables=posts&token={stack.token(_USER.format(number))}",
            )
            for number in range(CLIENTS)
        ]
        notified: dict[int, float] = {}
        listener = await asyncpg.connect(stack.postgres.dsn())
        await listener.add_listener(
            "bench", lambda *message: notified.setdefault(int(message[3]), time.perf_counter())
        )
        writer = await asyncpg.connect(stack.postgres.dsn())
        await _write(writer, 1, _WARM_UP, 10)  # first questions are planned, caches filled
        await _until_read(streams, _WARM_UP)
        first = 1 + _WARM_UP
        for rate, seconds in ((1, 6 if quick else 30), (100, 5 if quick else 20),
                              (1000, 4 if quick else 10)):  # fmt: skip
            changes = rate * seconds
            for stream in streams:
                stream.forget()
            committed = await _write(writer, first, changes, rate)
            await _until_read(streams, changes)
            read = [change for stream in streams for change in stream.changes()]
            _report(report, committed, _numbered(read, first, changes), notified, rate)
            first += changes
        for stream in streams:
            stream.close()
        await listener.close()
        await writer.close()


async def _write(
    writer: asyncpg.Connection, first: int, changes: int, rate: int
) -> dict[int, float]:
    """Write at a steady rate; return the time after each commit, by the row's id."""
    committed = {}
    insert = await writer.prepare(_INSERT)
    began = time.perf_counter()
    for number in range(changes):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        await insert.fetchval(first + number)
        committed[first + number] = time.perf_counter()
    return committed


async def _until_read(streams: list[StreamReader], changes: int) -> None:
    async with asyncio.timeout(60):
        while any(stream.frames < changes for stream in streams):
            await asyncio.sleep(0.05)


def _numbered(read: list[tuple[float, bytes]], first: int, changes: int) -> list[tuple[int, float]]:
    """Pair each reading with its row's id; fail if a client missed a change or got one twice."""
    numbered = [(json.loads(line)["record"]["id"], at) for at, line in read]
    if Counter(number for number, _ in numbered) != dict.fromkeys(
        range(first, first + changes), CLIENTS
    ):
        raise RuntimeError("a client missed a change or got one twice")
    return numbered


def _report(
    report: Report,
    committed: dict[int, float],
    read: list[tuple[int, float]],
    notified: dict[int, float],
    rate: int,
) -> None:
    ours = _figures([at - committed[number] for number, at in read])
    listened = _figures([notified[number] - at for number, at in committed.items()])
    report.add(Row(f"{rate:,} changes/s, {CLIENTS} clients", ours, {"LISTEN (id only)": listened}))
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
