"""Fan-out: what it costs to send one event to all of many clients.

CPU time, user and system, of the process that writes, for each delivery. Ours goes through
everything (an INSERT, the relay, Redis, row-level security). The peers check nothing: nginx with
nchan gets a POST for each event, and a loop in C does nothing but write the same bytes. Contenders
take turns in one run, and each event must arrive at every client once. With AYB_BENCH_BEFORE=PATH
the gateway of another checkout takes part as `before`.

The load client is a process of its own (`bench/load/load.c`); its own CPU time is shown.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.load.files import too_many_streams
from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.contenders import LOOP, Contender, open_contenders, take_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.reports.figure import Figure
    from bench.size import Size

FEW: Final = 100
"""With so few clients, the question about an event costs more than its deliveries."""
_MOST_OF_NCHAN: Final = {100: 1.0, 2_000: 0.75, 10_000: 0.75}
_LEAST_OF_LOOP: Final = 0.6
_MOST_IN_A_TURN: Final = 10


def run(size: Size) -> Report:
    """Measure with 100, 2,000 and 10,000 clients; fails if an event is missed or doubled."""
    report = Report("fanout")
    asyncio.run(_measure(report, size))
    report.checked = "Each client received each event once and nothing else."
    return report


async def _measure(report: Report, size: Size) -> None:
    figure = report.figure(
        "fanout", "One event to all clients", "µs of CPU a delivery", peer="nchan"
    )
    for clients in size.pick(full=(FEW, 2_000, 10_000), quick=(FEW, 2_000, 10_000), smoke=(20,)):
        if reason := too_many_streams(clients):
            report.leave_out(f"{clients:,} clients", reason)
            continue
        turns = size.pick(full=9, quick=3, smoke=1)
        async with AsyncExitStack() as exits:
            report.say(f"{clients:,} clients: opening the streams")
            contenders = await open_contenders(exits, report, clients)
            events = max(2, min(_MOST_IN_A_TURN, 10_000 // clients))
            for turn in range(-1, turns):
                await take_turns(
                    report, contenders, turn, partial(take_turn, clients=clients, events=events)
                )
                if turn < 0:
                    for contender in contenders:
                        contender.forget()
            await take_turns(report, contenders, 1, partial(Contender.check_rest, events=events))
        _add(report, figure, clients, contenders)


async def take_turn(contender: Contender, clients: int, events: int) -> None:
    """Publish events, one after the other has arrived everywhere; measure what deliveries cost."""
    await contender.client.forget()
    before = contender.cpu_seconds()
    for number in range(1, events + 1):
        await contender.publish(1)
        received = await contender.client.expect(number)
    contender.add(before, received.cpu_seconds, events * clients)


def _add(report: Report, figure: Figure, clients: int, contenders: Sequence[Contender]) -> None:
    load = statistics.median(c for contender in contenders for c in contender.client_costs)
    case = report.add(
        figure,
        f"{clients:,} clients",
        {contender.name: contender.costs for contender in contenders},
        x=clients,
        note=f"load client {load:.1f} µs",
    )
    ratio, most = figure.ratio(case), _MOST_OF_NCHAN.get(clients)
    if ratio is not None and most is not None:
        report.expect(
            f"ours / nchan, {clients:,} clients",
            want=f"at most {most}",
            got=f"{ratio:.2f}",
            holds=ratio <= most,
        )
    if clients > FEW and LOOP in case.values:
        ratio = case.values[LOOP].median / case.values[OURS].median
        report.expect(
            f"loop in C / ours, {clients:,} clients",
            want=f"at least {_LEAST_OF_LOOP}",
            got=f"{ratio:.2f}",
            holds=ratio >= _LEAST_OF_LOOP,
        )
