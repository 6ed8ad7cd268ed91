"""A slow table's lane, on a simulated loop: who joins it is served like those who are in it."""

from __future__ import annotations

from dataclasses import replace
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


def test_who_is_left_out_comes_first_in_the_next_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow table's question answers for one connection at a time: they are served in turn, each
    gets every event once, and none waits until the table is quiet.
    """
    loop = SimulatedLoop()
    patch_time(loop, monkeypatch.setattr)
    silence(monkeypatch.setattr)
    outbox = OutboxModel()
    outbox.append([("public.a", 1)])
    gateway = SimulatedGateway(loop, outbox, is_judging=True, pending_bytes=10**6)
    gateway.start()
    loop.run_for(0.5)
    gateway.visibility.slow_seconds[1] = 1.0
    ask = gateway.visibility.ask
    answered: list[Any] = []

    async def ask_about_one(relid: int, audience: Any, *rest: Any, may_postpone: bool) -> Any:
        answer = await ask(relid, audience, *rest, may_postpone=False)
        if not may_postpone:
            return answer
        answered.append(answer.grouping.members[0])
        return replace(answer, postponed=frozenset(range(1, len(answer.grouping))))

    monkeypatch.setattr(gateway.visibility, "ask", ask_about_one)
    try:
        clients = [Client(gateway, frozenset({"public.a"}), "") for _ in range(3)]
        loop.run_for(0.1)
        for _ in range(60):
            gateway.publish(outbox.append([("public.a", 1)], at=loop.time()))
            loop.run_for(0.5)
        counts = [sum(e.type in ("", "message") for e in c.events) for c in clients]
        assert min(counts) > 40, counts
        turns = [members[0] for members in answered]
        assert all(len({*turns[n : n + 3]}) == 3 for n in range(len(turns) - 2))
        loop.run_for(20)
        for client in clients:
            positions = [e.id for e in client.events if e.type in ("", "message")]
            assert len(positions) == len(set(positions)) == 60
    finally:
        gateway.stop()
        loop.close()
