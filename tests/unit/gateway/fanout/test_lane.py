"""A slow table's lane, on a simulated loop: who joins it is served like those who are in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.gateway.fanout.simulation.event_loop import SimulatedLoop
from tests.unit.gateway.fanout.simulation.gateway import (
    Client,
    SimulatedGateway,
    patch_time,
    silence,
)
from tests.unit.gateway.fanout.simulation.outbox_model import OutboxModel

if TYPE_CHECKING:
    import pytest


def test_who_joins_a_slow_tables_lane_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the others stay in the lane, a newcomer gets each event as they do."""
    loop = SimulatedLoop()
    patch_time(loop, monkeypatch.setattr)
    silence(monkeypatch.setattr)
    outbox = OutboxModel()
    for _ in range(3):
        outbox.append([("public.a", 1)])
    gateway = SimulatedGateway(loop, outbox, is_judging=True, pending_bytes=10**6)
    gateway.start()
    loop.run_for(0.5)
    gateway.visibility.slow_seconds[1] = 2.0
    ask = gateway.visibility.ask

    async def ask_everybody(*question: Any, may_postpone: bool) -> Any:
        del may_postpone
        return await ask(*question, may_postpone=False)

    monkeypatch.setattr(gateway.visibility, "ask", ask_everybody)

    def commit(times: int) -> None:
        for _ in range(times):
            gateway.publish(outbox.append([("public.a", 1)], at=loop.time()))
            loop.run_for(3)

    try:
        first = Client(gateway, frozenset({"public.a"}), "")
        loop.run_for(0.1)
        commit(5)
        second = Client(gateway, frozenset({"public.a"}), "")
        loop.run_for(0.1)
        commit(20)
        loop.run_for(10)
        changes = [
            sum(event.type in ("", "message") for event in client.events)
            for client in (first, second)
        ]
        assert changes == [25, 20]
    finally:
        gateway.stop()
        loop.close()
