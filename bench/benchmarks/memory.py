"""Memory: how much a server grows for each stream that is open and idle.

The proportional set size of the process that holds the streams, at 1,000 and 10,000 streams, less
what it was before the first of them, divided by the streams. Each stream has received an event, so
that buffers that exist only from the first write on are counted. Ours has a user of its own for
each stream, with claims of usual size; the peers do not know users. The kernel's memory for sockets
is not in it; it is the same for all.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from bench.load.files import too_many_streams
from bench.meters.process_cpu import memory_bytes
from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.contenders import gateway_openers, peer_may_fail, peer_openers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.servers.contenders import Contender
    from bench.size import Size

_WARM_UP: Final = 10
"""Streams that are open before the first measurement: the code is loaded then, the pools filled."""
_SETTLE_SECONDS: Final = 0.5
_WANTED_KB: Final = 9.0


def run(size: Size) -> Report:
    """Measure at 1,000 and 10,000 streams; fails if a stream does not receive its event."""
    report = Report("memory")
    asyncio.run(_measure(report, size))
    report.checked = "Each stream received each event once and nothing else."
    return report


async def _measure(report: Report, size: Size) -> None:
    steps = []
    for streams in size.pick(full=(1_000, 10_000), quick=(1_000, 10_000), smoke=(20,)):
        if reason := too_many_streams(streams):
            report.leave_out(f"{streams:,} streams", reason)
        else:
            steps.append(streams)
    found: dict[int, dict[str, list[float]]] = {streams: {} for streams in steps}
    for _ in range(size.pick(full=3, quick=1, smoke=1)):
        openers = gateway_openers(max(steps), are_users=True) | peer_openers(report)
        for name, opener in openers.items():
            async with AsyncExitStack() as exits:
                exits.enter_context(peer_may_fail(report, name))
                report.say(name)
                contender = await opener(exits)
                for streams, grown in (await _grow(contender, steps)).items():
                    found[streams].setdefault(contender.name, []).append(grown)
    figure = report.figure("memory", "Memory for an idle stream", "KB a stream", peer="nchan")
    for streams, values in found.items():
        case = report.add(figure, f"{streams:,} streams", values)
        own = case.values[OURS].median
        report.expect(
            f"memory at {streams:,} streams",
            want=f"at most {_WANTED_KB:g} KB",
            got=f"{own:.1f} KB",
            holds=own <= _WANTED_KB,
        )


async def _grow(contender: Contender, steps: Sequence[int]) -> dict[int, float]:
    """Open streams step by step; return the kilobytes for each of them, by step."""
    await contender.open(_WARM_UP)
    await _receive(contender)
    before, opened = memory_bytes(contender.pid), _WARM_UP
    found = {}
    for streams in steps:
        await contender.open(streams - opened)
        opened = streams
        await _receive(contender)
        grown = memory_bytes(contender.pid) - before
        found[streams] = grown / (streams - _WARM_UP) / 1000
    return found


async def _receive(contender: Contender) -> None:
    """Send an event to all streams, and let the server come to rest."""
    await contender.client.forget()
    await contender.publish(1)
    await contender.client.expect(1)
    await asyncio.sleep(_SETTLE_SECONDS)
    await contender.check_rest(1)
