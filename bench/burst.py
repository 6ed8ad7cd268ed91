"""A burst: what a delivery costs when many events come at once.

One transaction with 10,000 rows, to 2,000 clients of the table. Ours through everything; a loop in
C that joins 500 events in one write is the bare limit; nchan gets its events one by one, and fewer
of them, since it writes each to each client. CPU time of the process that writes, for each
delivery, with the contenders in turns; each event must arrive at each client once.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from bench.fanout import Contender, open_contenders
from bench.report import Report, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIENTS: Final = 2_000
EVENTS: Final = 10_000
_OF_NCHAN: Final = 100
_WANTED_US: Final = 0.08


def run(*, quick: bool) -> Report:
    """Measure; fails if an event is missed or doubled."""
    report = Report("burst")
    asyncio.run(_measure(report, quick=quick))
    return report


async def _measure(report: Report, *, quick: bool) -> None:
    async with AsyncExitStack() as exits:
        contenders = await open_contenders(exits, CLIENTS, joined=500)
        for turn in range(2 if quick else 6):
            for contender in contenders:
                await _take_turn(contender)
                if turn == 0:
                    contender.costs.clear()
    _add(report, contenders)


async def _take_turn(contender: Contender) -> None:
    events = _OF_NCHAN if contender.name == "nchan" else EVENTS
    await contender.client.forget()
    before = contender.cpu()
    await contender.publish(events)
    await contender.client.expect(events, seconds=120)
    contender.costs.append((contender.cpu() - before) / (events * CLIENTS) * 1e6)


def _add(report: Report, contenders: Sequence[Contender]) -> None:
    figures = {c.name: {"us_a_delivery": round(statistics.median(c.costs), 4)} for c in contenders}
    ours = figures.pop("ours")
    report.add(Row(f"{EVENTS} events, {CLIENTS} clients", ours, figures))
    own = ours["us_a_delivery"]
    report.expect(
        "us a delivery", want=f"<= {_WANTED_US}", got=f"{own:.3f}", holds=own <= _WANTED_US
    )
