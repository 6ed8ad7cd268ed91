"""What capture costs writers: transactions per second of 32 writers, with and without.

Each transaction inserts one row. Our capture is compared with the common way, a trigger that sends
the row with NOTIFY in each transaction, with a listener connected. Cases alternate, so that a drift
of the machine affects all of them alike; the figure of a case is its median.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.report import Report
from devstack.process import Child
from devstack.servers import PostgresServer, ValkeyServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.size import Size

CLIENTS: Final = 32
CASES: Final = ("no trigger", "NOTIFY in each transaction", "ours")

_SCHEMA: Final = """
CREATE TABLE public.{table} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author_id uuid NOT NULL DEFAULT gen_random_uuid(),
    title text NOT NULL,
    published boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""
_NOTIFY: Final = """
CREATE FUNCTION public.naive_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('naive', row_to_json(NEW)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER naive AFTER INSERT ON public.naive
    FOR EACH ROW EXECUTE FUNCTION public.naive_notify()
"""
_TABLES: Final = {"no trigger": "plain", "NOTIFY in each transaction": "naive", "ours": "captured"}


def run(size: Size) -> Report:
    """Measure, and check that all that was written has been captured."""
    report = Report("writers")
    with tempfile.TemporaryDirectory(prefix="ayb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        settings = {"max_connections": "100", "shared_buffers": "256MB", "max_wal_size": "4GB"}
        postgres = PostgresServer(folder / "pg", port=free_port(), settings=settings)
        valkey = ValkeyServer(folder / "valkey", port=free_port())
        with postgres, valkey:
            asyncio.run(_measure(report, postgres, valkey, folder, size))
    return report


async def _measure(
    report: Report, postgres: PostgresServer, valkey: ValkeyServer, folder: Path, size: Size
) -> None:
    admin = await asyncpg.connect(postgres.dsn())
    for table in _TABLES.values():
        await admin.execute(_SCHEMA.format(table=table))
    await admin.execute(_NOTIFY)
    listener = await asyncpg.connect(postgres.dsn())
    await listener.add_listener("naive", lambda *_: None)
    relay = Child(
        "relay",
        [sys.executable, "-m", "relay", "run"],
        log=folder / "relay.log",
        environment=os.environ
        | {
            "AYB_DATABASE_URL": postgres.dsn(),
            "AYB_REDIS_URL": valkey.url,
            "AYB_REALTIME_TABLES": "public.captured",
            "AYB_RELAY_PORT": str(free_port()),
        },
        directory=Path.cwd(),
    )
    try:
        await _until_captured(admin)
        seconds, rounds = size.pick(full=(15, 5), quick=(3, 2), smoke=(1, 1))
        rates: dict[str, list[float]] = {case: [] for case in CASES}
        for case in _turns(rounds):
            script = folder / f"{_TABLES[case]}.sql"
            script.write_text(
                f"INSERT INTO public.{_TABLES[case]} (title) VALUES ('a new post');\n"
            )
            script.chmod(0o644)
            rates[case].append(await _pgbench(postgres, script, seconds))
        await _check(admin)
    finally:
        relay.stop()
        await listener.close()
        await admin.close()
    medians = {case: statistics.median(rates[case]) for case in CASES}
    plain = medians["no trigger"]
    figure = report.figure(
        "writers",
        "Rate of writers with capture",
        "transactions a second",
        peer="no trigger",
        better="more",
    )
    report.add(figure, f"{CLIENTS} writers", {case: rates[case] for case in reversed(CASES)})
    ratio = medians["ours"] / plain
    report.expect(
        "rate of 32 writers, captured to not captured",
        want="at least 0.65",
        got=f"{ratio:.2f}",
        holds=ratio >= 0.65,
    )


def _turns(rounds: int) -> Iterator[str]:
    for number in range(rounds):
        yield from CASES if number % 2 == 0 else reversed(CASES)


async def _pgbench(postgres: PostgresServer, script: Path, seconds: int) -> float:
    said = await asyncio.to_thread(
        postgres.run_program,
        "pgbench", "-n", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres",
        "-c", str(CLIENTS), "-j", "2", "-T", str(seconds), "-M", "prepared", "-f", script,
        "postgres",
    )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", said)
    if found is None:
        raise RuntimeError(f"pgbench said: {said}")
    return float(found[1])


async def _until_captured(admin: asyncpg.Connection) -> None:
    async with asyncio.timeout(30):
        while not await admin.fetchval(
            "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!ayb_realtime_row_%'"
        ):
            await asyncio.sleep(0.1)


async def _check(admin: asyncpg.Connection) -> None:
    """Fail unless every row that was written was captured and recorded in a batch."""
    written = await admin.fetchval("SELECT count(*) FROM public.captured")
    recorded = 0
    async with asyncio.timeout(60):
        while recorded != written:
            await asyncio.sleep(0.2)
            recorded = await admin.fetchval(
                "SELECT coalesce(sum(changes), 0) FROM ayb_realtime.batches"
            )
