"""What the relay costs while changes come steadily: its process, and its sessions in Postgres.

Eight writers commit one row at a time, 100 and 1,000 times a second, beside a rest in which nothing
is written. CPU time is that of the process and of the server's processes, so other work on the
machine counts little. The batches show why: each costs about the same, whatever is in it. Beside
them stands how long a change waits from its write until it is in a batch.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import uvloop

from bench.load.pgbench import pgbench
from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.cpu_meter import CpuMeter
from bench.servers.stack import POSTS, BenchStack

if TYPE_CHECKING:
    from bench.size import Size

RATES: Final = (0, 100, 1_000)
WRITERS: Final = 8
_SCRIPT: Final = """
\\set id random(1, 4611686018427387903)
INSERT INTO public.posts (id, author_id, title, published)
VALUES (:id, '00000000-0000-4000-8000-000000000001', 'a new post', true);
"""
_WANTED_CORES: Final = {"the relay": 0.08, "its sessions in Postgres": 0.15}
"""At 1,000 changes a second."""
_WAIT_SECONDS: Final = 30
_RECORDED: Final = """
SELECT count(*) AS batches, coalesce(sum(changes), 0)::bigint AS changes
FROM ayb_realtime.batches
WHERE id > $1
"""
_WAITS: Final = """
SELECT percentile_cont($2::float8[]) WITHIN GROUP (
    ORDER BY extract(epoch FROM b.at - c.at)::float8 * 1000)
FROM ayb_realtime.batches b
JOIN ayb_realtime.changes c ON c.xid = ANY (b.xids) AND c.seq BETWEEN b.first_seq AND b.last_seq
WHERE b.id > $1
"""


def run(size: Size) -> Report:
    """Measure; fails unless each change is in a batch once."""
    report = Report("relay")
    with tempfile.TemporaryDirectory(prefix="ayb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        uvloop.run(_measure(report, folder, size))
    report.checked = "Each change was recorded once."
    return report


async def _measure(report: Report, folder: Path, size: Size) -> None:
    seconds, turns = size.pick(full=(8, 3), quick=(4, 2), smoke=(2, 1))
    script = folder / "insert.sql"
    script.write_text(_SCRIPT)
    script.chmod(0o644)
    cores: dict[int, dict[str, list[float]]] = {rate: {} for rate in RATES}
    batches: dict[int, list[float]] = {rate: [] for rate in RATES}
    waits: dict[int, list[list[float]]] = {rate: [] for rate in RATES}
    async with BenchStack(POSTS) as stack:
        admin = await asyncpg.connect(stack.postgres.dsn())
        meter = CpuMeter.of(stack)
        for turn in range(turns):
            report.say(f"turn {turn + 1} of {turns}")
            for rate in RATES if turn % 2 else RATES[::-1]:
                first = await admin.fetchval("SELECT max(id) FROM ayb_realtime.batches")
                before = await meter.read(admin)
                written = 0
                if rate == 0:
                    await asyncio.sleep(seconds)
                else:
                    written, _ = await pgbench(
                        stack.postgres, script, writers=WRITERS, seconds=seconds, rate=rate
                    )
                    await _until_recorded(admin, first, written)
                spent = (await meter.read(admin)).since(before)
                for part, name in zip(
                    _WANTED_CORES, ("relay", "sessions of ayb_relay"), strict=True
                ):
                    cores[rate].setdefault(part, []).append(spent[name] / seconds)
                if rate:
                    row = await admin.fetchrow(_RECORDED, first)
                    batches[rate].append(row["batches"] / seconds)
                    waits[rate].append(await admin.fetchval(_WAITS, first, [0.5, 0.99]))
        await admin.close()
    _add(report, cores, batches, waits)


async def _until_recorded(admin: asyncpg.Connection, after: int, written: int) -> None:
    recorded = -1
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while recorded < written:
                await asyncio.sleep(0.05)
                recorded = (await admin.fetchrow(_RECORDED, after))["changes"]
    except TimeoutError:
        pass
    if recorded != written:
        raise RuntimeError(f"{written} changes were written, {recorded} recorded")


def _add(
    report: Report,
    cores: dict[int, dict[str, list[float]]],
    batches: dict[int, list[float]],
    waits: dict[int, list[list[float]]],
) -> None:
    for part in _WANTED_CORES:
        figure = report.figure(
            f"relay-{part.split()[-1].lower()}", f"CPU of {part}", "cores", axis="changes a second"
        )
        for rate in RATES:
            report.add(figure, f"{rate:,}/s", {OURS: cores[rate][part]}, x=rate)
    figure = report.figure("relay-batches", "Batches", "a second", axis="changes a second")
    for rate in RATES[1:]:
        report.add(figure, f"{rate:,}/s", {OURS: batches[rate]}, x=rate)
    for place, share in enumerate((50, 99)):
        figure = report.figure(
            f"relay-wait-p{share}", f"Write to batch, p{share}", "ms", axis="changes a second"
        )
        for rate in RATES[1:]:
            values = [wait[place] for wait in waits[rate]]
            report.add(figure, f"{rate:,}/s", {OURS: values}, x=rate)
    for part, wanted in _WANTED_CORES.items():
        got = statistics.median(cores[1_000][part])
        report.expect(
            f"CPU of {part} at 1,000 changes a second",
            want=f"at most {wanted} cores",
            got=f"{got:.3f}",
            holds=got <= wanted,
        )
