"""What capture costs writers: 32 of them, one row a transaction, inserts and updates.

The rate, and the CPU time that a transaction costs the machine in all: Postgres, pgbench, and
whatever captures and carries the row. Contenders take turns: no capture; a trigger that does
nothing; one that sends the row with NOTIFY to a session that listens; wal2json on a server of its
own, with `pg_recvlogical` as consumer; and ours, with the relay and a Redis. With
AYB_BENCH_BEFORE=PATH the relay of another checkout takes part as `before`. A turn ends when the
consumer has everything, and fails unless it has each change once.

Where wal2json is installed, all of them run on its Postgres.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.load.pgbench import pgbench
from bench.peers import wal2json
from bench.peers.notify import FUNCTION, TRIGGER, RowListener
from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.cpu_meter import tree_seconds
from devstack.process import Child
from devstack.servers import PostgresServer, ValkeyServer, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from bench.size import Size

WRITERS: Final = 32
PLAIN: Final = "no capture"
SETTINGS: Final = {"max_connections": "100", "shared_buffers": "256MB", "max_wal_size": "4GB"}
SCRIPTS: Final = {
    "insert": "INSERT INTO public.{table} (title) VALUES ('a new post');\n",
    "update": "\\set id random(1, 10000)\n"
    "UPDATE public.{table} SET title = 'an edited post' WHERE id = :id;\n",
}
_SCHEMA: Final = """
CREATE TABLE public.{table} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author_id uuid NOT NULL DEFAULT gen_random_uuid(),
    title text NOT NULL,
    published boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO public.{table} (title) SELECT 'a post' FROM generate_series(1, 10000)
"""
_EMPTY: Final = """
CREATE FUNCTION public.do_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER do_nothing AFTER INSERT OR UPDATE ON public.empty
    FOR EACH ROW EXECUTE FUNCTION public.do_nothing()
"""
_WANTED_SHARE: Final = 0.62
_WAIT_SECONDS: Final = 120


@dataclass
class Contender:
    """A way to capture changes, on a table of its own."""

    name: str
    postgres: PostgresServer
    table: str
    received: Callable[[], Awaitable[int]] | None = None
    """Returns how many changes the consumer has had so far; None if there is no consumer."""
    rates: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)

    async def take_turn(self, workload: str, folder: Path, seconds: int) -> None:
        """Write for a time, wait until the consumer has everything, and note rate and cost.

        The cost is that of this process and all that it has started: the servers of the others
        idle.
        """
        script = folder / f"{self.table}-{workload}.sql"
        script.write_text(SCRIPTS[workload].format(table=self.table))
        script.chmod(0o644)
        had = 0 if self.received is None else await self.received()
        before = tree_seconds(os.getpid())
        written, rate = await pgbench(self.postgres, script, writers=WRITERS, seconds=seconds)
        if self.received is not None:
            await self._until_received(had + written)
        cost = (tree_seconds(os.getpid()) - before) / written * 1e6
        self.rates.setdefault(workload, []).append(rate)
        self.costs.setdefault(workload, []).append(cost)

    async def _until_received(self, changes: int) -> None:
        received = 0
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while received < changes and self.received is not None:
                    await asyncio.sleep(0.1)
                    received = await self.received()
        except TimeoutError:
            pass
        if received != changes:
            raise RuntimeError(f"{self.name}: {changes} changes were written, {received} received")


def run(size: Size) -> Report:
    """Measure; fails if a consumer does not get each change once."""
    report = Report("capture")
    with tempfile.TemporaryDirectory(prefix="ayb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        asyncio.run(_measure(report, folder, size))
    report.checked = "Each consumer received each change once."
    return report


async def _measure(report: Report, folder: Path, size: Size) -> None:
    seconds, turns = size.pick(full=(6, 6), quick=(2, 2), smoke=(2, 1))
    workloads = size.pick(full=tuple(SCRIPTS), quick=tuple(SCRIPTS), smoke=("insert",))
    async with AsyncExitStack() as exits:
        contenders = await _open_contenders(exits, report, folder)
        for turn in range(turns):
            report.say(f"turn {turn + 1} of {turns}")
            for workload in workloads:
                for contender in contenders if turn % 2 else contenders[::-1]:
                    await contender.take_turn(workload, folder, seconds)
        async with _session(contenders[0].postgres) as admin:
            version = await admin.fetchval("SHOW server_version")
    _add(report, contenders, workloads, f"Postgres {version.split()[0]}")


async def _open_contenders(
    exits: AsyncExitStack, report: Report, folder: Path
) -> Sequence[Contender]:
    programs = wal2json.programs()
    postgres = exits.enter_context(
        PostgresServer(folder / "pg", port=free_port(), settings=SETTINGS, programs=programs)
    )
    async with _session(postgres) as admin:
        for table in ("plain", "empty", "notified"):
            await admin.execute(_SCHEMA.format(table=table))
        await admin.execute(_EMPTY)
        await admin.execute(FUNCTION)
        await admin.execute(TRIGGER.format(table="notified"))
    listener = await exits.enter_async_context(RowListener(postgres.dsn()))

    async def heard() -> int:
        return listener.received

    contenders = [
        Contender(PLAIN, postgres, "plain"),
        Contender("empty trigger", postgres, "empty"),
        Contender("NOTIFY with the row", postgres, "notified", heard),
    ]
    if programs is None:
        report.leave_out("wal2json", wal2json.MISSING)
    else:
        contenders.append(await _open_wal2json(exits, folder, programs))
    contenders.append(
        await _open_relay(exits, OURS, folder, postgres, source=Path(__file__).parents[2])
    )
    if before := os.environ.get("AYB_BENCH_BEFORE"):
        other = PostgresServer(
            folder / "pg-before", port=free_port(), settings=SETTINGS, programs=programs
        )
        exits.enter_context(other)
        contenders.append(await _open_relay(exits, "before", folder, other, source=Path(before)))
    return contenders


async def _open_wal2json(exits: AsyncExitStack, folder: Path, programs: Path) -> Contender:
    decoded = exits.enter_context(wal2json.Wal2json(folder, programs, SETTINGS))
    async with _session(decoded.postgres) as admin:
        await admin.execute(_SCHEMA.format(table="decoded"))
    decoded.begin()

    async def count() -> int:
        return decoded.count()

    return Contender("wal2json", decoded.postgres, "decoded", count)


async def _open_relay(
    exits: AsyncExitStack, name: str, folder: Path, postgres: PostgresServer, *, source: Path
) -> Contender:
    """Start a relay with a Redis, and wait until it captures the table."""
    valkey = exits.enter_context(ValkeyServer(folder / f"valkey-{name}", port=free_port()))
    admin = await asyncpg.connect(postgres.dsn())
    exits.push_async_callback(admin.close)
    await admin.execute(_SCHEMA.format(table="captured"))
    relay = Child(
        f"relay {name}",
        [sys.executable, "-m", "relay", "run"],
        log=folder / f"relay-{name}.log",
        environment=os.environ
        | {
            "AYB_DATABASE_URL": postgres.dsn(),
            "AYB_REDIS_URL": valkey.url,
            "AYB_REALTIME_TABLES": "public.captured",
            "AYB_RELAY_PORT": str(free_port()),
        },
        directory=source,
    )
    exits.callback(relay.stop)
    async with asyncio.timeout(30):
        while not await admin.fetchval(
            "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!ayb_realtime_row_%'"
        ):
            if not relay.is_running:
                raise RuntimeError(f"the relay ended: {relay.output()[-3000:]}")
            await asyncio.sleep(0.1)

    async def recorded() -> int:
        return int(
            await admin.fetchval(
                "SELECT coalesce(sum(changes), 0)::bigint FROM ayb_realtime.batches"
            )
        )

    return Contender(name, postgres, "captured", recorded)


@asynccontextmanager
async def _session(postgres: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.dsn())
    try:
        yield connection
    finally:
        await connection.close()


def _add(
    report: Report, contenders: Sequence[Contender], workloads: Sequence[str], note: str
) -> None:
    rates = report.figure(
        "capture-rate",
        f"{WRITERS} writers",
        "transactions a second",
        peer=PLAIN,
        better="more",
    )
    costs = report.figure(
        "capture-cpu", "A transaction, the whole machine", "µs of CPU", peer=PLAIN
    )
    for workload in workloads:
        report.add(rates, workload, {c.name: c.rates[workload] for c in contenders}, note=note)
    for workload in workloads:
        report.add(costs, workload, {c.name: c.costs[workload] for c in contenders}, note=note)
    for workload in workloads:
        share = share_of(contenders, workload)
        report.expect(
            f"{workload}s: share of the rate without capture",
            want=f"at least {_WANTED_SHARE}",
            got=f"{share:.2f}",
            holds=share >= _WANTED_SHARE,
        )


def share_of(contenders: Sequence[Contender], workload: str) -> float:
    """Return the rate of ours as a share of the rate without capture: the median over turns.

    Within a turn both were measured close together, so a drift of the machine counts less.
    """
    rates = {contender.name: contender.rates[workload] for contender in contenders}
    shares = [ours / plain for ours, plain in zip(rates[OURS], rates[PLAIN], strict=True)]
    return statistics.median(shares)
