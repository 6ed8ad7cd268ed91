"""Many gateways: what an event costs with 1, 2 and 4 of them, and what each step of its way costs.

The same clients are spread over the gateways of three stacks, which take turns. Three tables differ
in who wants their events: those of `wide` go to each of 400 clients, those of `private` to one of
400 users with a cohort each, those of `lonely` to 20 clients that are all at the first gateway, and
those of `unwatched` to nobody. Changes are single rows at 20 and 200 a second (and 1,000 where
nobody listens: the relay does not sleep then), and transactions of ten rows, at random times. Every
client must get what it may see, once.

The runs with 1 and 2 gateways give the costs of docs/scale.md (`costs`), and with these the runs
with 4 are predicted: the figure `scale-check` has both, and `python -m bench simulate` starts from
the costs.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import statistics
import time
import urllib.request
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.load.programs import LoadClient
from bench.meters.process_cpu import cpu_seconds, memory_bytes
from bench.model import costs
from bench.model.costs import Observation
from bench.model.usage import Demand, Deployment, demand
from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.cpu_meter import CpuMeter
from bench.servers.stack import BenchStack, user_id
from shared.redis import redis_client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from bench.size import Size

GATEWAYS: Final = (1, 2, 4)
CAPTURED: Final = ("wide", "private", "lonely", "unwatched")
UNCAPTURED: Final = "uncaptured"
_TABLE: Final = """
CREATE TABLE public.{table} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author_id uuid NOT NULL,
    title text NOT NULL,
    published boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.{table} TO ayb_authenticated;
CREATE POLICY readable ON public.{table} FOR SELECT TO ayb_authenticated
    USING (published OR author_id = current_setting('ayb.user_id')::uuid);
"""
SCHEMA: Final = "".join(_TABLE.format(table=table) for table in (*CAPTURED, UNCAPTURED))
_INSERT: Final = """
INSERT INTO public.{table} (author_id, title, published)
SELECT author_id, 'A title of usual length', $2 FROM unnest($1::uuid[]) AS author_id
"""
PREDICTED: Final = "predicted"
_WANTED_ERROR: Final = 0.25
_KNOWN_GATEWAYS: Final = 2
"""Runs with so many are what the costs are made from; those with more are predicted."""
_ROW_BYTES: Final = """
SELECT length(row_to_json(event)::text) FROM public.{table} AS event LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Case:
    """What is written: so many transactions a second, of so many rows."""

    table: str
    per_second: int
    rows: int = 1

    @property
    def label(self) -> str:
        """How the report calls it."""
        rows = "" if self.rows == 1 else f" of {self.rows} rows"
        return f"{self.table}, {self.per_second}/s{rows}"


CASES: Final = (
    Case("wide", 20),
    Case("wide", 200),
    Case("wide", 20, 10),
    Case("private", 20),
    Case("private", 200),
    Case("lonely", 200),
    Case("lonely", 20, 10),
    Case("unwatched", 20),
    Case("unwatched", 200),
    Case("unwatched", 1_000),
)


@dataclass
class Fleet:
    """A stack with some gateways, and clients spread over them."""

    stack: BenchStack
    clients: dict[str, list[LoadClient]]
    """By table: one client program for each gateway that has clients of the table."""
    counts: dict[str, int]
    """Streams in all, by table."""
    admin: asyncpg.Connection
    redis: Redis
    meter: CpuMeter
    connect_us: float
    stream_bytes: float

    @property
    def gateways(self) -> int:
        """How many there are."""
        return len(self.stack.ports)

    async def observe(self, case: Case | None, seconds: float) -> Observation:
        """Write for a time, or nothing, wait until all has arrived, and say what it took."""
        for group in self.clients.values():
            for client in group:
                await client.forget()
        before = await self._totals()
        cpu_before = await self.meter.read(self.admin)
        began = time.monotonic()
        events = deliveries = 0
        if case is None:
            await asyncio.sleep(seconds)
        else:
            events, deliveries = await self._write(case, seconds)
            await self._expect(case.table, deliveries)
        spent = (await self.meter.read(self.admin)).since(cpu_before)
        took = time.monotonic() - began
        after = await self._totals()
        table = case.table if case else "unwatched"
        active = len(self.clients[table])
        cohorts = self.counts[table] / active if table == "private" else 1.0
        row_bytes = 0 if case is None else await self.admin.fetchval(_ROW_BYTES.format(table=table))
        return Observation(
            label=case.label if case else "idle",
            gateways=self.gateways,
            active=active,
            seconds=took,
            batches=after["batches"] - before["batches"],
            events=events,
            rows=case.rows if case else 1,
            deliveries=deliveries,
            clients=self.counts[table],
            questions=after["questions"] - before["questions"],
            cohorts=cohorts,
            row_bytes=row_bytes,
            gateway_us=spent["gateway"] * 1e6,
            question_us=spent["sessions of ayb_gateway"] * 1e6,
            relay_us=spent["relay"] * 1e6,
            primary_us=spent["sessions of ayb_relay"] * 1e6,
            redis_us=spent["redis"] * 1e6,
            redis_bytes=after["sent"] - before["sent"],
            wal_bytes=after["wal"] - before["wal"],
        )

    async def capture_us(self, changes: int) -> float:
        """Return what capture adds to a change, in the session that writes it."""
        session = await self.admin.fetchval("SELECT pg_backend_pid()")
        spent = {"wide": 0.0, UNCAPTURED: 0.0}
        for number in range(changes):
            for table in spent if number % 2 else reversed(spent):
                insert = _INSERT.format(table=table)
                before = cpu_seconds(session)
                await self.admin.execute(insert, [user_id(0)], False)
                spent[table] += cpu_seconds(session) - before
        return max(0.0, spent["wide"] - spent[UNCAPTURED]) / changes * 1e6

    async def _totals(self) -> dict[str, int]:
        found = await self.admin.fetchrow(
            "SELECT (SELECT coalesce(max(id), 0) FROM ayb_realtime.batches) AS batches,"
            " (pg_current_wal_insert_lsn() - '0/0')::bigint AS wal"
        )
        traffic = await self.redis.info("stats")
        questions = [await asyncio.to_thread(_questions, port) for port in self.stack.ports]
        return {
            **found,
            "sent": traffic["total_net_output_bytes"],
            "questions": sum(questions),
        }

    async def _write(self, case: Case, seconds: float) -> tuple[int, int]:
        """Write at random times; return the events, and how many deliveries are due."""
        insert = await self.admin.prepare(_INSERT.format(table=case.table))
        users = self.counts["private"]
        is_private = case.table == "private"
        transactions = max(1, round(case.per_second * seconds))
        due = time.monotonic()
        for _ in range(transactions):
            due += random.expovariate(case.per_second)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            authors = [
                user_id(random.randrange(users) if is_private else 0) for _ in range(case.rows)
            ]
            await insert.fetch(authors, not is_private)
        events = transactions * case.rows
        return events, events * (1 if is_private else self.counts[case.table])

    async def _expect(self, table: str, deliveries: int) -> None:
        """Wait for all deliveries; raises `RuntimeError` if any client of a table gets others."""
        end = time.monotonic() + 60
        while (found := await self._received(table)) < deliveries and time.monotonic() < end:
            await asyncio.sleep(0.02)
        others = sum([await self._received(other) for other in self.clients if other != table])
        if found != deliveries or others:
            raise RuntimeError(
                f"{table}: {deliveries} deliveries were due, {found} were made, and {others} to"
                " clients of other tables"
            )

    async def _received(self, table: str) -> int:
        return sum([(await client.report()).markers for client in self.clients[table]])


def _questions(port: int) -> int:
    """Ask a gateway's metrics how many questions it has put."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    found = re.search(r"^ayb_visibility_seconds_count (\S+)$", page, re.MULTILINE)
    if found is None:
        raise RuntimeError("a gateway does not count its questions")
    return int(float(found[1]))


def run(size: Size) -> Report:
    """Measure; fails if any client gets anything but what it may see, once."""
    report = Report("scale")
    asyncio.run(_measure(report, size))
    report.checked = "The clients of each table received its events, each once, and nothing else."
    return report


async def _measure(report: Report, size: Size) -> None:
    many = {"wide": 400, "private": 400, "lonely": 20, "unwatched": 0}
    few = {"wide": 8, "private": 8, "lonely": 4, "unwatched": 0}
    counts = size.pick(full=many, quick=many, smoke=few)
    numbers = size.pick(full=GATEWAYS, quick=GATEWAYS, smoke=GATEWAYS[:2])
    seconds = size.pick(full=4.0, quick=2.0, smoke=0.3)
    async with AsyncExitStack() as exits:
        fleets = []
        for gateways in numbers:
            report.say(f"starting {gateways} gateways, with {sum(counts.values())} clients")
            fleets.append(await open_fleet(exits, gateways, counts))
        for fleet in fleets:  # questions are planned, caches filled
            for warm_up in CASES:
                await fleet.observe(warm_up, 0.2)
        observations: list[Observation] = []
        for turn in range(size.pick(full=3, quick=1, smoke=1)):
            for case in (None, *CASES):
                report.say(f"turn {turn + 1}: {case.label if case else 'idle'}")
                order = fleets if turn % 2 else fleets[::-1]
                observations += [await fleet.observe(case, seconds) for fleet in order]
        found = costs.of_observations([o for o in observations if o.gateways <= _KNOWN_GATEWAYS])
        found["capture_us"] = await fleets[0].capture_us(size.pick(full=2_000, quick=500, smoke=20))
        found["gateway_connect_us"] = fleets[0].connect_us
        found["gateway_stream_bytes"] = fleets[0].stream_bytes
    _add_sums(report, observations)
    _add_check(report, found, observations)
    _add_costs(report, found)


async def open_fleet(exits: AsyncExitStack, gateways: int, counts: dict[str, int]) -> Fleet:
    """Start a stack, and open its clients."""
    tables = ",".join(f"public.{table}" for table in CAPTURED)
    stack = await exits.enter_async_context(
        BenchStack(
            SCHEMA,
            environment={
                "AYB_REALTIME_TABLES": tables,
                "AYB_REALTIME_HEARTBEAT_SECONDS": "3600",
                "AYB_REALTIME_DRAIN_DELAY_SECONDS": "0",
            },
            gateways=gateways,
        )
    )
    first = stack.gateway_pid
    clients: dict[str, list[LoadClient]] = {}
    spent = grown = 0.0
    for table in CAPTURED:
        ports = {"lonely": stack.ports[:1], "unwatched": []}.get(table, stack.ports)
        clients[table] = [await exits.enter_async_context(LoadClient(port)) for port in ports]
        cpu, memory = cpu_seconds(first), memory_bytes(first)
        for number in range(counts[table] if table == "private" else 0):
            await _open(stack, clients[table][number % len(ports)], table, 1, number)
        for client in clients[table] if table != "private" else ():
            await _open(stack, client, table, counts[table] // len(ports), 0)
        if table == "private":
            spent, grown = cpu_seconds(first) - cpu, float(memory_bytes(first) - memory)
    admin = await asyncpg.connect(stack.postgres.dsn())
    exits.push_async_callback(admin.close)
    redis = redis_client(stack.valkey.url)
    exits.push_async_callback(redis.aclose)
    opened = counts["private"] / gateways
    return Fleet(
        stack, clients, counts, admin, redis, CpuMeter.of(stack),
        connect_us=spent / opened * 1e6, stream_bytes=grown / opened,
    )  # fmt: skip


async def _open(stack: BenchStack, client: LoadClient, table: str, streams: int, user: int) -> None:
    token = stack.token(user_id(user))
    await client.open(streams, f"/api/realtime?tables={table}", Authorization=f"Bearer {token}")


_SUMS: Final = (
    ("questions", "question", "Gateways' sessions in Postgres", "µs of CPU an event"),
    ("gateways", "gateway", "All gateways together", "µs of CPU an event"),
    ("relay", "relay", "Relay", "µs of CPU an event"),
    ("relay sessions", "primary", "Relay's sessions in Postgres", "µs of CPU an event"),
    ("Redis", "redis", "Redis", "µs of CPU an event"),
    ("Redis, bytes sent", "redis-bytes", "Redis, sent to gateways", "bytes an event"),
)
"""Part (of `costs.PARTS`), name, title and unit of the figures by number of gateways."""


def _of(observations: Sequence[Observation], case: Case, gateways: int) -> list[Observation]:
    return [o for o in observations if o.label == case.label and o.gateways == gateways]


def _numbers(observations: Sequence[Observation]) -> list[int]:
    return sorted({observation.gateways for observation in observations})


def _measured(part: str, observation: Observation) -> float:
    if part == "Redis, bytes sent":
        return observation.redis_bytes / observation.events
    return costs.PARTS[part][1](observation) / observation.events


def _add_sums(report: Report, observations: Sequence[Observation]) -> None:
    """Show what an event costs in each case with few gateways, and with most of them as ours."""
    *fewer, most = _numbers(observations)
    names = {most: OURS} | {number: _name(number) for number in fewer}
    for part, name, title, unit in _SUMS:
        figure = report.figure(
            f"scale-{name}", f"{title}, {most} gateways", unit, peer=names[fewer[0]]
        )
        for case in CASES:
            runs = {number: _of(observations, case, number) for number in names}
            values = {names[n]: [_measured(part, o) for o in found] for n, found in runs.items()}
            report.add(figure, case.label, values, note=f"{runs[most][0].active} with clients")


def _name(gateways: int) -> str:
    return f"{gateways} gateway{'s' if gateways > 1 else ''}"


def _add_check(
    report: Report, found: dict[str, float], observations: Sequence[Observation]
) -> None:
    """Show what the simulator predicts beside what was measured."""
    figure = report.figure(
        "scale-check", "Measured, and predicted from 1 and 2 gateways", "CPU ms a second",
        peer=PREDICTED,
    )  # fmt: skip
    figure.is_detail = True
    known = costs.Costs(**{name: found[name] for name in costs.NAMES})
    errors = []
    for part, taken in _PREDICTED.items():
        for case in CASES:
            for gateways in _numbers(observations):
                runs = _of(observations, case, gateways)
                measured = [costs.PARTS[part][1](o) / o.seconds / 1e3 for o in runs]
                predicted = [taken(demand(known, deployment_of(o)), o) / 1e3 for o in runs]
                added = report.add(
                    figure, f"{part}: {case.label}, {_name(gateways)}",
                    {OURS: measured, PREDICTED: predicted},
                )  # fmt: skip
                ratio = figure.ratio(added)
                if ratio and gateways > _KNOWN_GATEWAYS:
                    errors.append(abs(1 / ratio - 1))
    error = statistics.median(errors) if errors else 0.0
    report.expect(
        f"median error of predictions for {GATEWAYS[-1]} gateways",
        want=f"at most {_WANTED_ERROR:.0%}",
        got=f"{error:.0%}",
        holds=error <= _WANTED_ERROR,
    )


_PREDICTED: Final[dict[str, Callable[[Demand, Observation], float]]] = {
    "gateways": lambda taken, o: taken.gateway_us * o.gateways,
    "questions": lambda taken, _: taken.questions_us,
    "relay": lambda taken, _: taken.relay_us,
    "Redis": lambda taken, _: taken.redis_us,
}
"""What the model says of a part, in all."""


def deployment_of(o: Observation) -> Deployment:
    """Return what was asked of a stack as a deployment: its counts are the simulator's to find."""
    return Deployment(
        clients=max(1, o.clients),
        gateways=o.gateways,
        events=o.events / o.seconds,
        events_per_transaction=o.rows,
        audience=o.deliveries / o.events,
        users_per_cohort=o.clients / (o.cohorts * o.active) if o.active else 1,
        subscribed=o.active / o.gateways,
        row_bytes=o.row_bytes,
        session_seconds=math.inf,
        heartbeat_seconds=math.inf,
    )


def _add_costs(report: Report, found: dict[str, float]) -> None:
    figure = report.figure(costs.FIGURE, "Costs", "µs of CPU, or bytes")
    figure.is_detail = True
    for name in costs.NAMES:
        report.add(figure, name, {OURS: found[name]})
