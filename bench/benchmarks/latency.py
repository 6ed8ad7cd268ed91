"""Commit to client: how long after its commit a change is read by each of 100 clients.

At 1, 100, 1,000 and 5,000 changes a second; above 1,000 a transaction has several rows. The writer
reads the clock right after its COMMIT has returned, and every client when it has read the frame.
Both run in one process, so they share one clock, and the process's own share of the machine is part
of the figure. In the same run a plain LISTEN on the same server receives a NOTIFY with each row's
id: the least time that Postgres itself needs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import asyncpg
import uvloop

from bench.reports.figure import OURS
from bench.reports.measured import percentile
from bench.reports.report import Report
from bench.servers.stack import POSTS, BenchStack, StreamReader, open_stream

if TYPE_CHECKING:
    from bench.reports.figure import Figure
    from bench.size import Size

CLIENTS: Final = 100
_NOTIFY: Final = "bare NOTIFY"
_PERCENTILES: Final = (50, 99)
_WANTED_MS: Final = {(50, 1): 3, (50, 100): 3, (50, 1_000): 3, (99, 1_000): 15}
"""By percentile and changes a second."""
_WARM_UP: Final = 10
_USER: Final = "00000000-0000-4000-8000-{:012d}"
_INSERT: Final = """
WITH written AS (
    INSERT INTO public.posts (id, author_id, title, published)
    SELECT id, '00000000-0000-4000-8000-000000000001', 'New Post', true
    FROM generate_series($1::bigint, $2::bigint) AS id
    RETURNING id
)
SELECT pg_notify('bench', id::text) FROM written
"""
_MOST_COMMITS: Final = 1_000
"""A second, by one writer."""
_ID: Final = re.compile(rb'"id":(\d+)')


def run(size: Size) -> Report:
    """Measure at 1, 100 and 1,000 changes a second; fails if any client misses any change."""
    report = Report("latency")
    uvloop.run(_measure(report, size))
    report.checked = "Each client received each change once."
    return report


async def _measure(report: Report, size: Size) -> None:
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
        figures = [
            report.figure(
                f"latency-p{share}",
                f"Commit to client, p{share}",
                "ms",
                peer=_NOTIFY,
                axis="changes a second",
            )
            for share in _PERCENTILES
        ]
        for rate, seconds in size.pick(
            full=((1, 30), (100, 20), (1_000, 15), (5_000, 8)),
            quick=((1, 8), (100, 6), (1_000, 5), (5_000, 3)),
            smoke=((100, 1),),
        ):
            changes = rate * seconds
            for stream in streams:
                stream.forget()
            committed = await _write(writer, first, changes, rate)
            await _until_read(streams, changes)
            read = [change for stream in streams for change in stream.changes()]
            _add(report, figures, committed, _numbered(read, first, changes), notified, rate=rate)
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
    at_once = max(1, rate // _MOST_COMMITS)
    insert = await writer.prepare(_INSERT)
    began = time.perf_counter()
    for number in range(0, changes, at_once):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        start, end = first + number, min(first + number + at_once, first + changes)
        await insert.fetch(start, end - 1)
        committed.update(dict.fromkeys(range(start, end), time.perf_counter()))
    return committed


async def _until_read(streams: list[StreamReader], changes: int) -> None:
    async with asyncio.timeout(60):
        while any(stream.frames < changes for stream in streams):
            await asyncio.sleep(0.05)


def _numbered(read: list[tuple[float, bytes]], first: int, changes: int) -> list[tuple[int, float]]:
    """Pair each reading with its row's id; fail if a client missed a change or got one twice."""
    numbered = [(int(_ID.findall(line)[0]), at) for at, line in read]
    if Counter(number for number, _ in numbered) != dict.fromkeys(
        range(first, first + changes), CLIENTS
    ):
        raise RuntimeError("a client missed a change or got one twice")
    return numbered


def _add(
    report: Report,
    figures: list[Figure],
    committed: dict[int, float],
    read: list[tuple[int, float]],
    notified: dict[int, float],
    *,
    rate: int,
) -> None:
    late = [at - committed[number] for number, at in read]
    notices = [notified[number] - at for number, at in committed.items()]
    for share, figure in zip(_PERCENTILES, figures, strict=True):
        values = {
            name: percentile(seconds, share / 100) * 1000
            for name, seconds in ((OURS, late), (_NOTIFY, notices))
        }
        report.add(figure, f"{rate:,} changes/s", values, x=rate)
        wanted = _WANTED_MS.get((share, rate))
        if wanted is not None:
            report.expect(
                f"commit to client at {rate:,} changes/s, p{share}",
                want=f"at most {wanted:g} ms",
                got=f"{values[OURS]:.1f} ms",
                holds=values[OURS] <= wanted,
            )
