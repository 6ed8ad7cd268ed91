"""Private events: many users, and each event is for one of them.

Policy `owner_id = current_setting('ayb.user_id')::uuid`, a stream for each of 10,000 users with
claims of their own, and transactions of ten rows for users drawn at random. At rising rates: the
delay from commit to client, and the CPU time an event costs the gateway (one process, so at most
one core) and its sessions in Postgres. A rate is sustained if the writers reached it, and the last
client has its event within a second after the last commit; it is tried twice.

Each user must get its own events, each of them once, and no others.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import uvloop

from bench.cpu import CpuMeter
from bench.figure import OURS
from bench.measured import percentile
from bench.report import Report
from bench.stack import BenchStack, StreamReader, open_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.figure import Figure
    from bench.size import Size

USERS: Final = 10_000
USERS_QUICK: Final = 1_000
RATES: Final = (2_000, 4_000, 6_000, 8_000, 10_000, 12_000, 16_000, 20_000, 30_000)
AT_ONCE: Final = 10
"""Rows in a transaction."""
SCHEMA: Final = """
CREATE TABLE public.messages (
    id bigint PRIMARY KEY,
    owner_id uuid NOT NULL,
    body text NOT NULL
);
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.messages TO ayb_authenticated;
CREATE POLICY own ON public.messages FOR SELECT TO ayb_authenticated
    USING (owner_id = current_setting('ayb.user_id')::uuid)
"""
_INSERT: Final = """
INSERT INTO public.messages (id, owner_id, body)
SELECT id, owner_id, 'Your order has been shipped'
FROM unnest($1::bigint[], $2::uuid[]) AS event (id, owner_id)
"""
_WRITERS: Final = 4
_CONNECTS_AT_ONCE: Final = 50
_LATEST_SECONDS: Final = 1.0
_WANTED_RATE: Final = 10_000
_WANTED_P99_MS: Final = 50.0


@dataclass(frozen=True, slots=True)
class Event:
    """A row that was written."""

    id: int
    user: int
    committed_at: float


@dataclass(frozen=True, slots=True)
class Step:
    """What was measured at one rate."""

    rate: float
    """Events a second as asked for."""
    written_rate: float
    delays_ms: Sequence[float]
    late_seconds: float
    """From the last commit to the last event at its client."""
    cpu_us: dict[str, float]
    """By part, for each event."""

    @property
    def is_sustained(self) -> bool:
        """Whether writers and clients kept up."""
        return self.written_rate >= 0.95 * self.rate and self.late_seconds <= _LATEST_SECONDS


def user_id(number: int) -> str:
    """Return the `sub` of a user."""
    return f"00000000-0000-4000-8000-{number:012d}"


def run(size: Size) -> Report:
    """Measure at rising rates until one is not sustained; fails if anything else arrives."""
    report = Report("private")
    users = size.pick(full=USERS, quick=USERS_QUICK, smoke=20)
    rates = size.pick(full=RATES, quick=RATES, smoke=(100,))
    uvloop.run(_measure(report, users, size.pick(full=10, quick=4, smoke=1), rates))
    return report


async def _measure(report: Report, users: int, seconds: float, rates: Sequence[float]) -> None:
    _allow_files(2 * users + 1_000)
    environment = {
        "AYB_REALTIME_MAX_CONNECTIONS": str(users + 100),
        "AYB_REALTIME_HEARTBEAT_SECONDS": "3600",
    }
    async with BenchStack(SCHEMA, environment=environment) as stack:
        streams = await _open(stack, users)
        admin = await asyncpg.connect(stack.postgres.dsn())
        writers = [await asyncpg.connect(stack.postgres.dsn()) for _ in range(_WRITERS)]
        meter = CpuMeter(
            {"gateway": stack.gateway_pids, "relay": [stack.relay_pid]}, stack.postgres.pid
        )
        first = await _warm_up(writers, streams)
        steps: list[Step] = []
        figure = report.figure("private", "Events for one of many users", "ms, p99")
        for rate in _attempts(rates, steps):
            before = await meter.read(admin)
            events, began = await _write(writers, users, first=first, rate=rate, seconds=seconds)
            first += len(events)
            await _until_read(streams, len(events))
            spent = (await meter.read(admin)).since(before)
            step = _step(rate, began, events, _readings(streams, events), spent)
            steps.append(step)
            _add(report, figure, step, users)
        for stream in streams:
            stream.close()
        for connection in (admin, *writers):
            await connection.close()
    _expect(report, steps)


def _attempts(rates: Sequence[float], steps: Sequence[Step]) -> Iterator[float]:
    """Yield the rates to try until one is not sustained twice: a hiccup is no limit."""
    for rate in rates:
        yield rate
        if not steps[-1].is_sustained:
            yield rate
        if not steps[-1].is_sustained:
            return


def _allow_files(wanted: int) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most not in (-1, resource.RLIM_INFINITY):
        wanted = min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _open(stack: BenchStack, users: int) -> list[StreamReader]:
    streams: list[StreamReader] = []
    for start in range(0, users, _CONNECTS_AT_ONCE):
        streams += await asyncio.gather(
            *(
                open_stream(
                    stack.port,
                    f"/api/realtime?tables=messages&token={stack.token(user_id(number))}",
                )
                for number in range(start, min(users, start + _CONNECTS_AT_ONCE))
            )
        )
    return streams


async def _warm_up(writers: Sequence[asyncpg.Connection], streams: Sequence[StreamReader]) -> int:
    """Have questions planned and caches filled; return the next row's id."""
    events, _ = await _write(writers, len(streams), first=1, rate=500, seconds=1)
    await _until_read(streams, len(events))
    _readings(streams, events)
    return 1 + len(events)


async def _write(
    writers: Sequence[asyncpg.Connection], users: int, *, first: int, rate: float, seconds: float
) -> tuple[list[Event], float]:
    """Write at a steady rate; return the events, and when the first was due."""
    numbers = random.Random(first)
    events: list[Event] = []
    transactions = max(len(writers), round(rate * seconds / AT_ONCE))
    due = iter(range(transactions))
    began = time.perf_counter()

    async def write(connection: asyncpg.Connection) -> None:
        insert = await connection.prepare(_INSERT)
        for number in due:
            wait = began + number * AT_ONCE / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            ids = list(range(first + number * AT_ONCE, first + (number + 1) * AT_ONCE))
            owners = [numbers.randrange(users) for _ in ids]
            await insert.fetch(ids, [user_id(owner) for owner in owners])
            at = time.perf_counter()
            events.extend(Event(row, owner, at) for row, owner in zip(ids, owners, strict=True))

    await asyncio.gather(*map(write, writers))
    return events, began


async def _until_read(streams: Sequence[StreamReader], events: int) -> None:
    """Wait until all streams together have so many events; raises `TimeoutError`."""
    async with asyncio.timeout(120):
        while sum(stream.frames for stream in streams) < events:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)  # what should not come would come now


def _readings(streams: Sequence[StreamReader], events: Sequence[Event]) -> dict[int, float]:
    """Return when each event was read, by its id, and forget them.

    Raises `RuntimeError` if a user got anything but its own events, each once.
    """
    wanted: list[list[int]] = [[] for _ in streams]
    for event in events:
        wanted[event.user].append(event.id)
    read_at: dict[int, float] = {}
    for user, stream in enumerate(streams):
        read = [(json.loads(line)["record"]["id"], at) for at, line in stream.changes()]
        if sorted(number for number, _ in read) != sorted(wanted[user]):
            raise RuntimeError(f"user {user} did not get its own events, each once, and no others")
        read_at.update(read)
        stream.forget()
    return read_at


def _step(
    rate: float,
    began: float,
    events: Sequence[Event],
    read_at: dict[int, float],
    spent: dict[str, float],
) -> Step:
    last_commit = max(event.committed_at for event in events)
    return Step(
        rate,
        len(events) / (last_commit - began),
        [(read_at[event.id] - event.committed_at) * 1000 for event in events],
        max(0.0, max(read_at.values()) - last_commit),
        {part: seconds / len(events) * 1e6 for part, seconds in spent.items()},
    )


def _add(report: Report, figure: Figure, step: Step, users: int) -> None:
    parts = {
        "p50_ms": percentile(list(step.delays_ms), 0.5),
        "p99_ms": percentile(list(step.delays_ms), 0.99),
        "late_s": step.late_seconds,
        "written_per_s": step.written_rate,
        "gateway_us": step.cpu_us["gateway"],
        "database_us": step.cpu_us["sessions of ayb_gateway"],
        "relay_us": step.cpu_us["relay"] + step.cpu_us["sessions of ayb_relay"],
    }
    report.add(
        figure,
        f"{step.rate:,.0f} events/s, {users:,} users",
        {OURS: parts["p99_ms"]},
        note=", ".join(f"{name} {value:.4g}" for name, value in parts.items()),
    )


def _expect(report: Report, steps: Sequence[Step]) -> None:
    sustained = max((step.rate for step in steps if step.is_sustained), default=0.0)
    figure = report.figure(
        "private-rate", "Private events, sustained", "events a second", better="more"
    )
    report.add(figure, "highest rate", {OURS: sustained})
    report.expect(
        "events a second sustained",
        want=f">= {_WANTED_RATE:,}",
        got=f"{sustained:,.0f}",
        holds=sustained >= _WANTED_RATE,
    )
    p99 = percentile(list(steps[0].delays_ms), 0.99)
    report.expect(
        f"p99 at {steps[0].rate:,.0f} a second",
        want=f"<= {_WANTED_P99_MS:.0f} ms",
        got=f"{p99:.1f} ms",
        holds=p99 <= _WANTED_P99_MS,
    )
