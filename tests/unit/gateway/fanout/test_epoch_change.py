"""What happens to clients whose gateway notices late that numbers were taken back."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.gateway.fanout.simulation.event_loop import SimulatedLoop
from tests.unit.gateway.fanout.simulation.gateway import (
    TABLES,
    Client,
    SimulatedGateway,
    patch_time,
)
from tests.unit.gateway.fanout.simulation.outbox_model import OutboxModel

A = frozenset({"public.a"})
ON_A = [("public.a", TABLES["public.a"])]


class World:
    """An outbox with the batches 1 to 10 of epoch 1, and a gateway that follows it."""

    def __init__(self, loop: SimulatedLoop, *, is_judging: bool) -> None:
        self.loop = loop
        self.outbox = OutboxModel()
        for _ in range(10):
            self.outbox.append(ON_A)
        self.gateway = SimulatedGateway(loop, self.outbox, is_judging=is_judging)
        self.gateway.start()
        self.run(0.5)

    def run(self, seconds: float) -> None:
        self.loop.run_for(seconds)
        self.gateway.check()

    def client(self, last_event_id: str = "") -> Client:
        client = Client(self.gateway, A, last_event_id)
        self.run(0.05)
        return client

    def batch(self, count: int = 1, *, is_published: bool = True) -> None:
        for _ in range(count):
            batch = self.outbox.append(ON_A)
            if is_published:
                self.gateway.publish(batch)
                self.run(0.02)


@pytest.fixture(params=[False, True], ids=["open", "judged"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    random.seed(1)
    loop = SimulatedLoop()
    patch_time(loop, monkeypatch.setattr)
    world = World(loop, is_judging=request.param)
    yield world
    world.gateway.stop()
    loop.close()


def story(client: Client) -> list[str]:
    """The positions of data frames, and `resync` with its reason and position."""
    return [
        event.id if event.type == "message" else f"resync {json.loads(event.data)['reason']}"
        for event in client.events
        if event.type in {"message", "resync"}
    ]


def test_two_epochs_between_two_looks(world: World) -> None:
    """Batches that the ring holds of an epoch that has ended are never delivered again."""
    client = world.client()
    world.batch(3)
    assert story(client) == ["11-0", "12-0", "13-0"]
    world.outbox.crash(lost=3)
    world.batch(3, is_published=False)
    world.outbox.crash(lost=0)
    world.batch()
    world.run(10)
    assert story(client)[3:] == ["resync unknown", "2.11-0", "2.12-0", "2.13-0", "3.14-0"]


def test_numbers_are_taken_back_during_a_replay(world: World) -> None:
    """A client in replay whose position was taken back gets `resync`, then what is true."""
    slow = world.client()
    world.batch()
    slow.pause()
    world.batch(20)  # it leaves the live stream, told up to some number that will be taken back
    assert world.gateway.replayer.connections()
    told = len(story(slow))
    world.outbox.crash(lost=20)
    world.batch(5)
    slow.proceed()
    world.run(10)
    assert story(slow)[0] == "11-0"
    rest = story(slow)[told:]
    assert rest[rest.index("resync unknown") :] == [
        "resync unknown",
        *(f"2.{n}-0" for n in range(12, 17)),
    ]


def test_as_many_batches_as_were_taken_back(world: World) -> None:
    """A new epoch that is first seen at the old newest number wakes those who wait."""
    client = world.client()
    world.batch(3)
    world.outbox.crash(lost=3)
    world.batch(3, is_published=False)
    world.run(10)  # found by polling
    assert story(client)[3:] == ["resync unknown", "2.11-0", "2.12-0", "2.13-0"]


def test_a_table_that_is_new_while_others_are_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that joins while the hub reads the outbox gets what was read without its table."""
    other = Client(world.gateway, frozenset({"public.b"}), "")
    world.run(0.05)
    gate, read = asyncio.Event(), world.outbox.fetch

    async def held(sql: str, *arguments: Any) -> Any:
        rows = await read(sql, *arguments)
        await gate.wait()
        return rows

    monkeypatch.setattr(world.outbox, "fetch", held)
    world.batch(3, is_published=False)
    world.gateway.publish(world.outbox.append([]))
    world.run(0.1)
    client = world.client()
    gate.set()
    world.run(5)
    assert client.events[0].id == "10"
    assert story(client) == ["11-0", "12-0", "13-0"]
    assert story(other) == []
