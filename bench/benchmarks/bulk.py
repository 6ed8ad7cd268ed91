"""Bulk: one transaction with many rows, until every client has all of them.

INSERT ... SELECT, UPDATE, and COPY of 10,000 and 100,000 rows. The clock starts with the statement.
For ours it stops when the last of 100 clients has everything, each change judged by row-level
security. For the peers it stops when their one consumer has everything, since neither has clients:
a session that listens to NOTIFY with each row, and `pg_recvlogical` on wal2json. Shown too: how
long the writer itself waited, and by how much memory grew at most.

The sizes are far from the bound of the outbox (AYB_REALTIME_OUTBOX_BYTES), past which clients get
`resync` instead: here a `resync` is a failure, like anything else that does not arrive once.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.load.programs import LoadClient
from bench.meters.peak_memory import PeakMemory
from bench.peers import wal2json
from bench.peers.notify import FUNCTION, TRIGGER, RowListener
from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.stack import POSTS, BenchStack, StreamReader, open_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bench.size import Size

STATEMENTS: Final = ("INSERT", "UPDATE", "COPY")
_MIB: Final = 2**20
_WAIT_SECONDS: Final = 180.0
_AUTHOR: Final = "00000000-0000-4000-8000-000000000001"
_TITLE: Final = "A title of usual length"
_PEER_SCHEMA: Final = """
CREATE TABLE public.{table} (
    id bigint PRIMARY KEY,
    author_id uuid NOT NULL,
    title text NOT NULL,
    published boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""
_INSERT: Final = """
INSERT INTO public.{table} (id, author_id, title, published)
SELECT id, $3, $4, true FROM generate_series($1::bigint, $2::bigint) AS id
"""
_UPDATE: Final = "UPDATE public.{table} SET title = title || '!' WHERE id BETWEEN $1 AND $2"


@dataclass
class Contender:
    """A way in which changes reach whoever wants them."""

    name: str
    writer: asyncpg.Connection
    table: str
    expect: Callable[[int], Awaitable[None]]
    """Waits until everyone has so many changes more than before; raises `RuntimeError` if not."""
    processes: Mapping[str, int]
    """Those whose memory is watched."""
    next_id: int = 1
    total: dict[str, list[float]] = field(default_factory=dict)
    waited: dict[str, list[float]] = field(default_factory=dict)
    grown: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    async def take_turn(self, statement: str, rows: int) -> None:
        """Write in one transaction, wait for everyone, and note the times and the memory."""
        case = f"{statement}, {rows:,} rows"
        async with PeakMemory(self.processes) as memory:
            began = time.perf_counter()
            await self._write(statement, rows)
            written = time.perf_counter()
            await self.expect(rows)
            finished = time.perf_counter()
        self.waited.setdefault(case, []).append(written - began)
        self.total.setdefault(case, []).append(finished - began)
        for name in self.processes:
            grown = self.grown.setdefault(case, {}).setdefault(name, [])
            grown.append(memory.growth(name) / _MIB)

    async def _write(self, statement: str, rows: int) -> None:
        if statement == "UPDATE":  # the rows of the statement before
            query = _UPDATE.format(table=self.table)
            await self.writer.execute(query, self.next_id - rows, self.next_id - 1)
            return
        first, self.next_id = self.next_id, self.next_id + rows
        if statement == "INSERT":
            query = _INSERT.format(table=self.table)
            await self.writer.execute(query, first, first + rows - 1, _AUTHOR, _TITLE)
        else:
            await self.writer.copy_records_to_table(
                self.table,
                records=((row, _AUTHOR, _TITLE, True) for row in range(first, first + rows)),
                columns=["id", "author_id", "title", "published"],
            )


def run(size: Size) -> Report:
    """Measure; fails unless every client and every consumer has each change once."""
    report = Report("bulk")
    with tempfile.TemporaryDirectory(prefix="ayb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        asyncio.run(_measure(report, folder, size))
    report.checked = "Every client and every consumer received each change once."
    return report


async def _measure(report: Report, folder: Path, size: Size) -> None:
    sizes = size.pick(full=(10_000, 100_000), quick=(10_000, 100_000), smoke=(200,))
    clients = size.pick(full=100, quick=100, smoke=3)
    async with AsyncExitStack() as exits:
        contenders = await _open_contenders(exits, report, folder, clients)
        for contender in contenders:  # plans, caches and memory as they are later on
            for statement in STATEMENTS:
                await contender.take_turn(statement, 100)
        for turn in range(size.pick(full=3, quick=1, smoke=1)):
            report.say(f"turn {turn + 1}")
            for rows in sizes:
                for statement in STATEMENTS:
                    for contender in contenders if turn % 2 else contenders[::-1]:
                        await contender.take_turn(statement, rows)
    cases = [f"{statement}, {rows:,} rows" for rows in sizes for statement in STATEMENTS]
    _add(report, contenders, cases, clients)


async def _open_contenders(
    exits: AsyncExitStack, report: Report, folder: Path, clients: int
) -> list[Contender]:
    programs = wal2json.programs()
    stack = await exits.enter_async_context(
        BenchStack(POSTS, programs=programs, postgres_settings={"max_wal_size": "4GB"})
    )
    contenders = [
        await _open_ours(exits, stack, clients),
        await _open_notify(exits, stack.postgres.dsn()),
    ]
    if programs is None:
        report.leave_out("wal2json", wal2json.MISSING)
    else:
        contenders.append(await _open_wal2json(exits, folder, programs))
    return contenders


async def _connect(exits: AsyncExitStack, dsn: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(dsn)
    exits.push_async_callback(connection.close)
    return connection


async def _open_ours(exits: AsyncExitStack, stack: BenchStack, clients: int) -> Contender:
    """Open the streams: one is read in full, the others are counted."""
    path = "/api/realtime?tables=posts"
    load = await exits.enter_async_context(LoadClient(stack.port))
    await load.open(clients - 1, path, Authorization=f"Bearer {stack.token(_AUTHOR)}")
    reader = await open_stream(stack.port, f"{path}&token={stack.token(_AUTHOR)}")
    exits.callback(reader.close)

    async def expect(changes: int) -> None:
        await load.expect(changes, seconds=_WAIT_SECONDS)
        async with asyncio.timeout(_WAIT_SECONDS):
            while reader.frames < changes:
                await asyncio.sleep(0.01)
        _check(reader, changes)
        reader.forget()
        await load.forget()

    writer = await _connect(exits, stack.postgres.dsn())
    processes = {"relay": stack.relay_pid, "gateway": stack.gateway_pid}
    return Contender(OURS, writer, "posts", expect, processes)


def _check(reader: StreamReader, changes: int) -> None:
    """Fail unless the stream has so many rows, each once and in their order."""
    rows = [json.loads(line)["record"]["id"] for _, line in reader.changes()]
    if rows != list(range(rows[0], rows[0] + changes)):
        raise RuntimeError(f"a client should have {changes} rows in order, and has {len(rows)}")


async def _open_notify(exits: AsyncExitStack, dsn: str) -> Contender:
    writer = await _connect(exits, dsn)
    await writer.execute(_PEER_SCHEMA.format(table="notified"))
    await writer.execute(FUNCTION)
    await writer.execute(TRIGGER.format(table="notified"))
    listener = await exits.enter_async_context(RowListener(dsn))
    expected = 0

    async def expect(changes: int) -> None:
        nonlocal expected
        expected += changes
        await _until(lambda: listener.received, expected, "NOTIFY")

    return Contender("NOTIFY with the row", writer, "notified", expect, {})


async def _open_wal2json(exits: AsyncExitStack, folder: Path, programs: Path) -> Contender:
    decoded = exits.enter_context(
        wal2json.Wal2json(folder, programs, {"shared_buffers": "256MB", "max_wal_size": "4GB"})
    )
    writer = await _connect(exits, decoded.postgres.dsn())
    await writer.execute(_PEER_SCHEMA.format(table="decoded"))
    decoded.begin()
    async with asyncio.timeout(30):
        while not (sender := await writer.fetchval("SELECT pid FROM pg_stat_replication")):
            await asyncio.sleep(0.05)
    expected = 0

    async def expect(changes: int) -> None:
        nonlocal expected
        expected += changes
        await _until(decoded.count, expected, "wal2json")

    processes = {"walsender": sender, "pg_recvlogical": decoded.consumer.pid}
    return Contender("wal2json", writer, "decoded", expect, processes)


async def _until(count: Callable[[], int], changes: int, name: str) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while (received := count()) < changes and time.monotonic() < end:
        await asyncio.sleep(0.01)
    if received != changes:
        raise RuntimeError(f"{name}: {changes} changes were written, {received} received")


def _add(
    report: Report, contenders: Sequence[Contender], cases: Sequence[str], clients: int
) -> None:
    total = report.figure(
        "bulk-seconds", "One large transaction, until all have it", "seconds", peer="wal2json"
    )
    waited = report.figure(
        "bulk-writer", "One large transaction, until it is committed", "seconds", peer="wal2json"
    )
    grown = report.figure(
        "bulk-memory", "Growth of relay and gateway, of sender and receiver", "MiB", peer="wal2json"
    )
    for case in cases:
        values = {contender.name: contender.total[case] for contender in contenders}
        report.add(total, case, values, note=f"ours: {clients} clients")
    for case in cases:
        report.add(
            waited, case, {contender.name: contender.waited[case] for contender in contenders}
        )
    for case in cases:
        parts = {c.name: c.grown[case] for c in contenders if c.processes}
        values = {name: _sums(of_processes) for name, of_processes in parts.items()}
        report.add(grown, case, values, note=_largest(parts))


def _sums(of_processes: Mapping[str, Sequence[float]]) -> list[float]:
    return [sum(of_turn) for of_turn in zip(*of_processes.values(), strict=True)]


def _largest(parts: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Say by how much each process grew in the turn in which it grew most."""
    most = {name: max(grown) for found in parts.values() for name, grown in found.items()}
    return ", ".join(f"{name} {grown:.0f}" for name, grown in most.items())
