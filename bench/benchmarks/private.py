"""Private events: many users, and each event is for one of them.

Policy `owner_id = current_setting('ayb.user_id')::uuid`, a stream for each of 10,000 users with
claims of their own, and transactions of ten rows for users drawn at random. At rising rates: the
delay from commit to client, and the CPU time an event costs the gateway (one process, so at most
one core) and its sessions in Postgres. A rate is sustained if the writers reached it, and the last
client has its event within a second after the last commit; each is tried twice, since a hiccup of
the machine is no limit. With AYB_BENCH_BEFORE=PATH the gateway of another checkout takes its turns
in the same run, as `before`.

Each user must get its own events, each of them once, and no others.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import uvloop

from bench.reports.figure import OURS
from bench.reports.measured import percentile
from bench.reports.report import Report
from bench.servers.cpu_meter import CpuMeter
from bench.servers.stack import BenchStack, StreamReader, open_stream, user_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.size import Size

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
_ATTEMPTS: Final = 2
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
    p50_ms: float
    p99_ms: float
    late_seconds: float
    """From the last commit to the last event at its client."""
    cpu_us: Mapping[str, float]
    """By part, for each event."""

    @classmethod
    def of(
        cls,
        rate: float,
        began: float,
        events: Sequence[Event],
        read_at: Mapping[int, float],
        spent: Mapping[str, float],
    ) -> Step:
        """Sum up; `spent` are CPU seconds by part."""
        last_commit = max(event.committed_at for event in events)
        delays = [(read_at[event.id] - event.committed_at) * 1000 for event in events]
        return cls(
            rate,
            len(events) / (last_commit - began),
            percentile(delays, 0.5),
            percentile(delays, 0.99),
            max(0.0, max(read_at.values()) - last_commit),
            {part: seconds / len(events) * 1e6 for part, seconds in spent.items()},
        )

    @property
    def is_in_time(self) -> bool:
        """Whether the clients kept up with what was written."""
        return self.late_seconds <= _LATEST_SECONDS

    @property
    def is_sustained(self) -> bool:
        """Whether writers and clients kept up."""
        return self.written_rate >= 0.95 * self.rate and self.is_in_time


@dataclass
class Contender:
    """A stack with a stream for each user."""

    name: str
    streams: list[StreamReader]
    writers: list[asyncpg.Connection]
    admin: asyncpg.Connection
    meter: CpuMeter
    next_id: int = 1
    steps: list[Step] = field(default_factory=list)

    @property
    def keeps_up(self) -> bool:
        """Whether the last rate was sustained, or none was tried."""
        return not self.steps or self.steps[-1].is_sustained

    @property
    def sustained(self) -> float:
        """The highest rate that was written while all clients kept up; 0 if there is none."""
        return max((step.written_rate for step in self.steps if step.is_in_time), default=0.0)

    async def take_step(self, rate: float, seconds: float) -> Step:
        """Write at a rate, wait until everything has arrived, check it, and measure."""
        before = await self.meter.read(self.admin)
        events, began = await self._write(rate, seconds)
        await self._until_read(len(events))
        spent = (await self.meter.read(self.admin)).since(before)
        return Step.of(rate, began, events, self._readings(events), spent)

    async def _write(self, rate: float, seconds: float) -> tuple[list[Event], float]:
        """Write at a steady rate; return the events, and when the first was due."""
        first, users = self.next_id, len(self.streams)
        numbers = random.Random(first)
        transactions = max(len(self.writers), round(rate * seconds / AT_ONCE))
        self.next_id += transactions * AT_ONCE
        events: list[Event] = []
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

        await asyncio.gather(*map(write, self.writers))
        return events, began

    async def _until_read(self, events: int) -> None:
        async with asyncio.timeout(120):
            while sum(stream.frames for stream in self.streams) < events:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)  # what should not come would come now

    def _readings(self, events: Sequence[Event]) -> dict[int, float]:
        """Return when each event was read, by its id, and forget them.

        Raises `RuntimeError` if a user got anything but its own events, each once.
        """
        wanted: list[list[int]] = [[] for _ in self.streams]
        for event in events:
            wanted[event.user].append(event.id)
        read_at: dict[int, float] = {}
        for user, stream in enumerate(self.streams):
            read = [(json.loads(line)["record"]["id"], at) for at, line in stream.changes()]
            if sorted(number for number, _ in read) != sorted(wanted[user]):
                raise RuntimeError(
                    f"{self.name}: user {user} did not get its own events, each once, and no others"
                )
            read_at.update(read)
            stream.forget()
        return read_at


def run(size: Size) -> Report:
    """Measure at rising rates until one is not sustained; fails if anything else arrives."""
    report = Report("private")
    uvloop.run(_measure(report, size))
    report.checked = "Each user received its own events, each once, and no others."
    return report


async def _measure(report: Report, size: Size) -> None:
    users = size.pick(full=10_000, quick=1_000, smoke=20)
    seconds = size.pick(full=8.0, quick=3.0, smoke=0.5)
    async with AsyncExitStack() as exits:
        contenders = [await _open(exits, OURS, Path(__file__).parents[2], users)]
        if before := os.environ.get("AYB_BENCH_BEFORE"):
            contenders.append(await _open(exits, "before", Path(before), users))
        for contender in contenders:  # questions are planned, caches filled
            await contender.take_step(min(500, 20 * users), 1.0)
        for rate in size.pick(full=RATES, quick=RATES, smoke=(200,)):
            for contender in contenders:
                if contender.keeps_up:
                    await _attempt(report, contender, rate, seconds)
            if not any(contender.keeps_up for contender in contenders):
                break
    _add(report, contenders, f"{users:,} users")


async def _attempt(report: Report, contender: Contender, rate: float, seconds: float) -> None:
    for _ in range(_ATTEMPTS):
        step = await contender.take_step(rate, seconds)
        report.say(
            f"{contender.name}, {rate:,}/s: p50 {step.p50_ms:.1f} ms, p99 {step.p99_ms:.1f} ms,"
            f" written {step.written_rate:,.0f}/s, last event {step.late_seconds:.2f} s late"
        )
        contender.steps.append(step)
        if step.is_sustained:
            break


async def _open(exits: AsyncExitStack, name: str, source: Path, users: int) -> Contender:
    environment = {
        "AYB_REALTIME_MAX_CONNECTIONS": str(users + 100),
        "AYB_REALTIME_HEARTBEAT_SECONDS": "3600",
    }
    stack = await exits.enter_async_context(
        BenchStack(SCHEMA, environment=environment, source=source)
    )
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
    for stream in streams:
        exits.callback(stream.close)
    admin, *writers = [await asyncpg.connect(stack.postgres.dsn()) for _ in range(1 + _WRITERS)]
    for connection in (admin, *writers):
        exits.push_async_callback(connection.close)
    return Contender(name, streams, writers, admin, CpuMeter.of(stack))


def _add(report: Report, contenders: Sequence[Contender], users: str) -> None:
    axis = "events a second"
    delays = [
        report.figure("private-p50", "Private events, p50", "ms", axis=axis),
        report.figure("private-p99", "Private events, p99", "ms", axis=axis),
    ]
    costs = report.figure(
        "private-cpu", "Private events, gateway and its database", "µs of CPU an event", axis=axis
    )
    for rate in dict.fromkeys(step.rate for contender in contenders for step in contender.steps):
        steps = {c.name: [s for s in c.steps if s.rate == rate] for c in contenders}
        # Of two attempts the second counts.
        last = {name: found[-1] for name, found in steps.items() if found}
        label = f"{rate:,}/s, {users}"
        report.add(delays[0], label, {n: s.p50_ms for n, s in last.items()}, x=rate)
        report.add(delays[1], label, {n: s.p99_ms for n, s in last.items()}, x=rate)
        report.add(costs, label, {n: _cost(s) for n, s in last.items()}, x=rate, note=_parts(last))
    highest = report.figure(
        "private-rate", "Private events, sustained", "events a second", better="more"
    )
    report.add(highest, users, {c.name: c.sustained for c in contenders})
    ours = contenders[0]
    report.expect(
        f"events a second sustained, {users}",
        want=f"at least {_WANTED_RATE:,}",
        got=f"{ours.sustained:,.0f}",
        holds=ours.sustained >= _WANTED_RATE,
    )
    p99 = min(step.p99_ms for step in ours.steps if step.rate == ours.steps[0].rate)
    report.expect(
        f"p99 at {ours.steps[0].rate:,} a second, {users}",
        want=f"at most {_WANTED_P99_MS:.0f} ms",
        got=f"{p99:.1f} ms",
        holds=p99 <= _WANTED_P99_MS,
    )


def _cost(step: Step) -> float:
    return step.cpu_us["gateway"] + step.cpu_us["sessions of ayb_gateway"]


def _parts(steps: Mapping[str, Step]) -> str:
    return "; ".join(
        f"{name}: gateway {step.cpu_us['gateway']:.0f},"
        f" database {step.cpu_us['sessions of ayb_gateway']:.0f}"
        for name, step in steps.items()
    )
