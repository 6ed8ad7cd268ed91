"""A burst: what a delivery costs when many events come at once.

One transaction with 10,000 rows, to 2,000 clients of the table. Ours through everything; a loop in
C that joins 500 events in one write is the bare limit. The peers write each event to each client by
itself, so they get fewer of them. CPU time of the process that writes, for each delivery, with the
contenders in turns; each event must arrive at each client once.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.contenders import Contender, open_contenders, take_turns

if TYPE_CHECKING:
    from bench.size import Size

_WANTED_US: Final = 0.08
_JOINED: Final = 500


def run(size: Size) -> Report:
    """Measure; fails if an event is missed or doubled."""
    report = Report("burst")
    asyncio.run(_measure(report, size))
    report.checked = "Each client received each event once and nothing else."
    return report


async def _measure(report: Report, size: Size) -> None:
    clients = size.pick(full=2_000, quick=2_000, smoke=20)
    events = size.pick(full=10_000, quick=10_000, smoke=500)
    async with AsyncExitStack() as exits:
        contenders = await open_contenders(exits, report, clients, joined=_JOINED)
        for turn in range(size.pick(full=7, quick=3, smoke=2)):
            report.say(f"turn {turn}")
            await take_turns(
                report, contenders, turn, partial(_take_turn, clients=clients, events=events)
            )
            if turn == 0:
                for contender in contenders:
                    contender.forget()
        await take_turns(report, contenders, 1, partial(_check_rest, events=events))
    figure = report.figure("burst", "Many events at once", "µs of CPU a delivery", peer="nchan")
    load = statistics.median(c for contender in contenders for c in contender.client_costs)
    case = report.add(
        figure,
        f"{events:,} events, {clients:,} clients",
        {contender.name: contender.costs for contender in contenders},
        note=f"load client {load:.2f} µs",
    )
    own = case.values[OURS].median
    report.expect(
        "a delivery", want=f"at most {_WANTED_US} µs", got=f"{own:.3f} µs", holds=own <= _WANTED_US
    )


async def _take_turn(contender: Contender, clients: int, events: int) -> None:
    events = min(events, contender.most_at_once)
    await contender.client.forget()
    before = contender.cpu_seconds()
    await contender.publish(events)
    received = await contender.client.expect(events, seconds=120)
    contender.add(before, received.cpu_seconds, events * clients)


async def _check_rest(contender: Contender, events: int) -> None:
    await contender.check_rest(min(events, contender.most_at_once))
