"""Fan-out: what it costs to send one event to all of many clients.

CPU time, user and system, of the process that writes, for each delivery: ours through everything
(an INSERT, the relay, Redis, row-level security), beside nchan (nginx, a POST to a channel) and a
loop in C that does nothing but write the same bytes. Contenders take turns in one run, event by
event, and each event must arrive at every client once. With AYB_BENCH_BEFORE=PATH the gateway of
another checkout takes part as `before`.

The load client is a process of its own (`bench/load.c`); its own CPU time is shown.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import psutil

from bench.load import LoadClient, WriteLoop
from bench.nchan import Nchan
from bench.report import Report, Row
from bench.stack import BenchStack
from devstack.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLIENTS: Final = (100, 2_000, 10_000)
EVENT: Final = (
    '{"action":"create","table":"posts","record":{"id":%d,"title":"New Post","published":true}}'
)
SCHEMA: Final = """
CREATE TABLE public.posts (id bigint PRIMARY KEY, title text NOT NULL, published boolean NOT NULL);
ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.posts TO ayb_authenticated;
CREATE POLICY readable ON public.posts FOR SELECT TO ayb_authenticated USING (published)
"""
MOST_ONCE: Final = 10
"""Events after another, before the next contender has its turn."""


@dataclass
class Contender:
    """Someone who publishes an event to all clients."""

    name: str
    client: LoadClient
    publish: Callable[[int], Awaitable[None]]
    """Publishes so many events, one by one."""
    cpu: Callable[[], float]
    costs: list[float] = field(default_factory=list)
    client_costs: list[float] = field(default_factory=list)

    async def take_turn(self, clients: int, events: int) -> None:
        """Publish events, and measure what each delivery cost."""
        await self.client.forget()
        before = self.cpu()
        for number in range(1, events + 1):
            await self.publish(1)
            report = await self.client.expect(number)
        self.costs.append((self.cpu() - before) / (events * clients) * 1e6)
        self.client_costs.append(report.cpu_seconds / (events * clients) * 1e6)


def run(*, quick: bool) -> Report:
    """Measure with 100, 2,000 and 10,000 clients; fails if an event is missed or doubled."""
    report = Report("fanout")
    asyncio.run(_measure(report, quick=quick))
    return report


async def _measure(report: Report, *, quick: bool) -> None:
    for clients in CLIENTS[:2] if quick else CLIENTS:
        async with AsyncExitStack() as exits:
            contenders = await open_contenders(exits, clients)
            turns = 5 if quick else 15
            for turn in range(-1, turns):
                for contender in contenders:
                    await contender.take_turn(clients, max(2, min(MOST_ONCE, 20_000 // clients)))
                    if turn < 0:
                        contender.costs.clear()
                        contender.client_costs.clear()
        _add(report, clients, {c.name: c for c in contenders})


def _add(report: Report, clients: int, contenders: dict[str, Contender]) -> None:
    figures = {
        name: {
            "us_a_delivery": round(statistics.median(c.costs), 2),
            "spread": round(statistics.stdev(c.costs), 2),
            "client_us": round(statistics.median(c.client_costs), 2),
        }
        for name, c in contenders.items()
    }
    ours = figures.pop("ours")
    report.add(Row(f"{clients} clients", ours, figures))
    own = ours["us_a_delivery"]
    if "nchan" in figures:
        ratio = own / figures["nchan"]["us_a_delivery"]
        most = 1.0 if clients <= CLIENTS[0] else 0.75
        report.expect(
            f"ours / nchan, {clients} clients",
            want=f"<= {most}",
            got=f"{ratio:.2f}",
            holds=ratio <= most,
        )
    ratio = figures["loop in C"]["us_a_delivery"] / own
    if clients > CLIENTS[0]:
        report.expect(
            f"loop in C / ours, {clients} clients",
            want=">= 0.6",
            got=f"{ratio:.2f}",
            holds=ratio >= 0.6,
        )


async def open_contenders(
    exits: AsyncExitStack, clients: int, *, joined: int = 1
) -> list[Contender]:
    """Start everyone, with so many streams each. The loop in C joins events in one write."""
    found = [await open_gateway(exits, clients, "ours", Path(__file__).parents[1])]
    if before := os.environ.get("AYB_BENCH_BEFORE"):
        found.append(await open_gateway(exits, clients, "before", Path(before)))
    if Nchan.is_installed():
        nchan = await exits.enter_async_context(Nchan())
        client = await exits.enter_async_context(LoadClient(nchan.port, opened=": hi"))
        await client.open(clients, "/sub")

        async def publish(events: int) -> None:
            for number in range(events):
                await nchan.publish(EVENT % number)

        found.append(Contender("nchan", client, publish, lambda: cpu_seconds(nchan.worker)))
    port = free_port()
    loop = await exits.enter_async_context(WriteLoop(port))
    client = await exits.enter_async_context(LoadClient(port))
    await client.open(clients, "/")
    spent = 0.0

    async def write(events: int) -> None:
        nonlocal spent
        spent += await loop.publish(events, joined=min(joined, events))

    found.append(Contender("loop in C", client, write, lambda: spent))
    return found


async def open_gateway(exits: AsyncExitStack, clients: int, name: str, source: Path) -> Contender:
    """Start a whole stack from a checkout."""
    stack = await exits.enter_async_context(
        BenchStack(
            SCHEMA,
            environment={
                "AYB_REALTIME_MAX_CONNECTIONS": str(clients + 100),
                "AYB_REALTIME_HEARTBEAT_SECONDS": "3600",
            },
            source=source,
        )
    )
    connection = await asyncpg.connect(stack.postgres.dsn())
    exits.push_async_callback(connection.close)
    client = await exits.enter_async_context(LoadClient(stack.port))
    await client.open(
        clients, "/api/realtime?tables=posts", Authorization=f"Bearer {stack.token('user')}"
    )
    gateway = psutil.Process(stack.gateway_pid)
    number = 0

    async def publish(events: int) -> None:
        nonlocal number
        first, number = number + 1, number + events
        await connection.execute(
            "INSERT INTO posts SELECT g, 'New Post', true FROM generate_series($1::int, $2::int) g",
            first,
            number,
        )

    return Contender(name, client, publish, lambda: cpu_seconds(gateway))


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process so far, user and system, in nanosecond steps.

    The kernel's own account (schedstat) where there is one; `times` counts in hundredths.
    """
    threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    if spent := sum(int(thread.read_text().split()[0]) for thread in threads):
        return spent / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)
