"""Commit to client in three regions: 160 and 300 ms of round trip from the primary's.

Region A has the primary and the relay, B and C a streaming replica, a Valkey and a gateway each, as
far away as the tests' own proxies make them. Every region gets every change, with its content over
Redis or with ticks alone, so that gateways read the content from their replica. What crosses the
wide area is counted in the proxies: on Redis by the relay, and on the replication stream.

The least that B and C can have is half a round trip, 80 and 150 ms: the replica must have a commit
before the change is judged there.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.reports.measured import percentile
from bench.reports.report import Report
from bench.servers.stack import POSTS, StreamReader, open_stream
from tests.support.databases import Database
from tests.support.regions import Regions, three_regions
from tests.support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.reports.figure import Figure
    from bench.size import Size

CLIENTS: Final = 10
WANTED_MS: Final = {"a": 6.0, "b": 110.0, "c": 180.0}
"""The median at 100 changes a second, by region."""

_INSERT: Final = """
INSERT INTO public.posts (id, author_id, title, published)
VALUES ($1, '00000000-0000-4000-8000-000000000001', 'A title of usual length', true)
"""


def run(size: Size) -> Report:
    """Measure at 10, 100 and 1,000 changes a second; fails if a client misses a change."""
    report = Report("regions")
    with TemporaryDirectory(prefix="ayb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        asyncio.run(_measure(report, folder, size))
    return report


async def _measure(report: Report, folder: Path, size: Size) -> None:
    async with three_regions(folder / "lab") as lab:
        stack = await _start(folder, lab)
        try:
            await _compare(report, lab, stack, size)
        finally:
            await stack.close()


async def _start(folder: Path, lab: Regions) -> Stack:
    stack = Stack(
        folder,
        Database.on(lab.primary, "app"),
        lab.primary,
        lab.valkey,
        relay={"AYB_REDIS_URL": lab.redis_urls(), "AYB_LOG_LEVEL": "info"},
        gateway={"AYB_REALTIME_VERIFY": "0", "AYB_LOG_LEVEL": "info"},
    )
    await stack.start("relay")
    await stack.create(POSTS, "posts")
    await lab.replicated(lab.b, lab.c)
    for region in (lab.b, lab.c):
        await stack.add_gateway(region.name, **region.gateway_settings)  # type: ignore[arg-type]  # no setting is named directory
    await stack.start("gateway")
    return stack


async def _compare(report: Report, lab: Regions, stack: Stack, size: Size) -> None:
    gateways = {"a": "gateway", "b": "b", "c": "c"}
    token = stack.token()
    streams = {
        name: [
            await open_stream(
                int(stack.url(gateway).rpartition(":")[2]),
                f"/api/realtime?tables=posts&token={token}",
            )
            for _ in range(CLIENTS)
        ]
        for name, gateway in gateways.items()
    }
    writer = await asyncpg.connect(lab.primary.dsn("app"))
    first = 1
    for content in size.pick(
        full=("all", "compressed", "ticks"), quick=("all", "ticks"), smoke=("all",)
    ):
        figure = report.figure(
            f"regions-{content}",
            f"Commit to client in three regions, content={content}",
            "ms, p50",
            axis="changes a second",
        )
        stack.set("relay", AYB_REDIS_URL=lab.redis_urls(b=content, c=content))
        await stack.restart("relay")
        await asyncio.sleep(2)
        first = await _step(report, None, lab, streams, writer, first=first, rate=10, seconds=5)
        for rate in (10, 100, 1_000):
            first = await _step(
                report,
                figure,
                lab,
                streams,
                writer,
                first=first,
                rate=rate,
                seconds=size.pick(full=10, quick=4, smoke=1),
            )
    await writer.close()
    for readers in streams.values():
        for reader in readers:
            reader.close()


async def _step(
    report: Report,
    figure: Figure | None,
    lab: Regions,
    streams: Mapping[str, list[StreamReader]],
    writer: asyncpg.Connection,
    *,
    first: int,
    rate: int,
    seconds: int,
) -> int:
    """Write at a rate, wait for all clients, add it to the figure, if any; return the next id."""
    changes = rate * seconds
    for readers in streams.values():
        for reader in readers:
            reader.forget()
    carried = {line: line.carried for region in (lab.b, lab.c) for line in region.lines}
    committed = await _write(writer, first, changes, rate)
    async with asyncio.timeout(60):
        while any(reader.frames < changes for readers in streams.values() for reader in readers):
            await asyncio.sleep(0.02)
    if figure is None:
        return first + changes
    medians: dict[str, float] = {}
    slowest: list[str] = []
    for name, readers in streams.items():
        read = [
            (json.loads(line)["record"]["id"], at)
            for reader in readers
            for at, line in reader.changes()
        ]
        if Counter(number for number, _ in read) != dict.fromkeys(
            range(first, first + changes), CLIENTS
        ):
            raise RuntimeError(f"a client in {name} missed a change or got one twice")
        late = [(at - committed[number]) * 1000 for number, at in read]
        median = medians[f"region {name.upper()}"] = percentile(late, 0.5)
        slowest.append(f"{percentile(late, 0.99):.0f}")
        if rate == 100 and figure.name == "regions-all":
            report.expect(
                f"commit to client in region {name} at 100/s, p50",
                want=f"at most {WANTED_MS[name]:.0f} ms",
                got=f"{median:.1f} ms",
                holds=median <= WANTED_MS[name],
            )
    b = lab.b
    redis = (b.redis_line.carried - carried[b.redis_line]) / changes
    wal = (b.wal_line.carried - carried[b.wal_line]) / changes
    report.add(
        figure,
        f"{rate:,} changes/s",
        medians,
        x=rate,
        note=f"p99 {' / '.join(slowest)} ms; B: {redis:.0f} bytes of Redis, {wal:.0f} of WAL each",
    )
    return first + changes


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
