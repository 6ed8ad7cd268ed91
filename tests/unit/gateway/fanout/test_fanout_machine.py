"""Hub, replayer, backlog, bus and connections together, under everything that can go wrong.

A stateful test: batches on several tables, crashes that take numbers back and begin epochs, lost,
doubled, late and foreign messages, slow and returning clients, bursts, a database that is away or
slow, rotation. After each step promise 1 of the design is checked for every chain of connections;
at the end everything heals, and nothing may be missing.

`AYB_TEST_EXAMPLES=5000` runs more of it than the fixed set that every run checks.
"""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.fanout import delivery as delivery_module
from gateway.fanout import hub as hub_module
from gateway.fanout import lane as lane_module
from gateway.fanout import replay as replay_module
from gateway.fanout import ring as ring_module
from shared.change import FORMAT, Batch, Tick, encode
from shared.position import Position
from tests.support.sse_client import Event
from tests.unit.gateway.fanout.simulation.event_loop import SimulatedLoop
from tests.unit.gateway.fanout.simulation.gateway import (
    TABLES,
    Client,
    SimulatedGateway,
    patch_time,
    silence,
)
from tests.unit.gateway.fanout.simulation.outbox_model import OutboxModel
from tests.unit.gateway.fanout.simulation.promise import Account

MORE = int(os.environ.get("AYB_TEST_EXAMPLES", "0"))
MOST_CHAINS = 4

some_tables = st.sets(st.sampled_from(sorted(TABLES)), min_size=1).map(frozenset)
changes = st.lists(st.sampled_from(sorted(TABLES.items())), max_size=4)
fates = st.sampled_from(["arrives", "arrives", "arrives", "lost", "bare", "late", "twice"])
chains = st.integers(0, MOST_CHAINS - 1)
short_times = st.sampled_from([0.0, 0.001, 0.02, 0.3])


SMALL = (
    (ring_module, "MOST_BATCHES_A_READ", 7),
    (hub_module, "_BURST_BATCHES", 6),
    (lane_module, "_HANDOVER_BATCHES", 4),
    (lane_module, "_NEAR_BATCHES", 12),
    (replay_module, "MOST_LANES", 2),
    (delivery_module, "_STEPS_BETWEEN_YIELDS", 2),
    (delivery_module, "_WRITES_BETWEEN_YIELDS", 1),
)
"""Bounds so small that what happens to thousands happens to four."""


class Chain:
    """A client that comes back with its last position."""

    def __init__(self, gateway: SimulatedGateway, tables: frozenset[str]) -> None:
        self._gateway = gateway
        self.account = Account(tables, gateway.outbox, self._knows)
        self.client: Client | None = None
        self.last_event_id = ""

    def connect(self) -> None:
        self.disconnect()
        self.client = Client(self._gateway, self.account.tables, self.last_event_id, self._on_event)

    def disconnect(self) -> None:
        if self.client is not None:
            self.last_event_id = self.client.parser.last_event_id
            self.client.leave()
            self.client = None

    def _on_event(self, event: Event) -> None:
        try:
            self.account.on_event(event)
        except AssertionError as error:
            self._gateway.failures.append(error)

    def _knows(self, position: Position) -> bool:
        assert self.client is not None
        return self.client.is_known_to_stand(position)


class FanoutMachine(RuleBasedStateMachine):
    """One gateway, and what happens around it."""

    @initialize(is_judging=st.booleans(), seed=st.integers(0, 3))
    def begin(self, is_judging: bool, seed: int) -> None:
        random.seed(seed)
        self.patched: list[tuple[object, str, object]] = []
        self.loop = SimulatedLoop()
        patch_time(self.loop, self._patch)
        silence(self._patch)
        for module, name, value in SMALL:
            self._patch(module, name, value)
        self.outbox = OutboxModel()
        for _ in range(3):
            self.outbox.append([("public.a", 1)])
        self.gateway = SimulatedGateway(self.loop, self.outbox, is_judging=is_judging)
        self.gateway.start()
        self.chains: list[Chain] = []
        self.late: list[Batch] = []
        self.loop.run_for(0.5)

    def _patch(self, module: object, name: str, value: object) -> None:
        self.patched.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    @rule(changes=changes, fate=fates, wait=short_times)
    def commit(self, changes: list[tuple[str, int]], fate: str, wait: float) -> None:
        """A batch is recorded; its messages arrive, or meet their fate."""
        self._announce(self.outbox.append(changes, at=self.loop.time()), fate)
        self.loop.run_for(wait)

    @rule(table=st.sampled_from(sorted(TABLES.items())), count=st.integers(5, 45), fate=fates)
    def burst(self, table: tuple[str, int], count: int, fate: str) -> None:
        """Many batches come at once."""
        for _ in range(count):
            self._announce(self.outbox.append([table], at=self.loop.time()), fate)
        self.loop.run_for(0.001)

    @precondition(lambda self: self.late)
    @rule(place=st.integers(0, 100), wait=short_times)
    def arrive_late(self, place: int, wait: float) -> None:
        """A message arrives after others, perhaps after its batch was taken back."""
        self.gateway.publish(self.late.pop(place % len(self.late)))
        self.loop.run_for(wait)

    @rule(distance=st.sampled_from([2, 3, 50, 10**12]), epoch=st.sampled_from([0, 0, 1, 5]))
    def foreign_tick(self, distance: int, epoch: int) -> None:
        """A tick of a number that no relay has given out."""
        number = self.outbox.last_batch + distance
        history = self.outbox.history
        tick = Tick(FORMAT, history, self.outbox.epoch + epoch, number, 0, 0.0, ())
        self.gateway.arrive(self.gateway.bus._channels.tick, encode(tick))
        self.loop.run_for(0.01)

    @rule(lost=st.integers(0, 6), epochs=st.sampled_from([1, 1, 2]), wait=short_times)
    def crash(self, lost: int, epochs: int, wait: float) -> None:
        """Postgres crashes and forgets its newest batches, perhaps twice in a row."""
        for again in range(epochs):
            self.outbox.crash(lost=lost if not again else 0)
            if again or lost % 2:
                self.outbox.begin_epoch()
            if epochs > 1:
                for _ in range(lost):
                    self.outbox.append([("public.a", 1)], at=self.loop.time())
        self.loop.run_for(wait)

    @rule(tables=some_tables, wait=short_times)
    def connect(self, tables: frozenset[str], wait: float) -> None:
        """A new client comes; beyond a few, it takes the place of the oldest."""
        if len(self.chains) >= MOST_CHAINS:
            self.chains.pop(0).disconnect()
        self.chains.append(Chain(self.gateway, tables))
        self.chains[-1].connect()
        self.loop.run_for(wait)

    @precondition(lambda self: self.chains)
    @rule(number=chains, wait=short_times)
    def come_back(self, number: int, wait: float) -> None:
        """A client reconnects with its last position."""
        self.chains[number % len(self.chains)].connect()
        self.loop.run_for(wait)

    @precondition(lambda self: self.chains)
    @rule(number=chains)
    def go_away(self, number: int) -> None:
        """A client is gone for a while."""
        self.chains[number % len(self.chains)].disconnect()
        self.loop.run_for(0.001)

    @precondition(lambda self: self.chains)
    @rule(number=chains, is_reading=st.booleans(), wait=short_times)
    def read(self, number: int, is_reading: bool, wait: float) -> None:
        """A client's socket fills up, or drains."""
        client = self.chains[number % len(self.chains)].client
        if client is not None:
            (client.proceed if is_reading else client.pause)()
        self.loop.run_for(wait)

    @rule(is_available=st.booleans(), delay=st.sampled_from([0.0, 0.0, 0.005, 0.2]))
    def database(self, is_available: bool, delay: float) -> None:
        """The database goes away, comes back, becomes slow or fast."""
        self.outbox.is_available, self.outbox.delay_seconds = is_available, delay
        self.loop.run_for(0.001)

    @rule(
        table=st.sampled_from(sorted(TABLES.values())),
        seconds=st.sampled_from([0.0, 0.0, 0.2, 0.3, 0.8, 3.0]),
    )
    def judge_slowly(self, table: int, seconds: float) -> None:
        """The questions about a table become slow, or quick."""
        self.gateway.visibility.slow_seconds[table] = seconds
        self.loop.run_for(0.001)

    @rule(keep=st.integers(0, 30))
    def rotate(self, keep: int) -> None:
        """Old batches are dropped from the outbox."""
        self.outbox.rotate(keep)
        self.loop.run_for(0.001)

    @rule(table=st.sampled_from(sorted(TABLES.items())), count=st.integers(2, 30), keep=chains)
    def outage(self, table: tuple[str, int], count: int, keep: int) -> None:
        """The gateway reaches neither bus nor database, for longer than batches are kept."""
        self.outbox.is_available = False
        for _ in range(count):
            self._announce(self.outbox.append([table], at=self.loop.time()), "lost")
        self.loop.run_for(4)
        self.outbox.rotate(keep)
        self.outbox.is_available = True
        self.loop.run_for(0.02)

    @rule(seconds=st.sampled_from([0.05, 0.6, 2.0, 8.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.loop.run_for(seconds)

    @rule()
    def heal(self) -> None:
        """Everything heals and comes to rest: nothing is missing."""
        self._heal()

    @invariant()
    def promise(self) -> None:
        """No promise was broken so far, and no task has failed."""
        if hasattr(self, "gateway"):
            self.gateway.check()

    def teardown(self) -> None:
        """Everything heals: then nothing is missing."""
        if not hasattr(self, "gateway"):
            return
        try:
            self.promise()
            self._heal()
            self._announce(self.outbox.append([], at=self.loop.time()), "arrives")
            for _ in range(2):
                for chain in self.chains:
                    if chain.client is None or chain.client.is_ended:
                        chain.connect()
                self.loop.run_for(10)
            self._check_complete()
            assert all(chain.client and not chain.client.is_ended for chain in self.chains)
        finally:
            self.gateway.stop()
            self.loop.close()
            for module, name, value in self.patched:
                setattr(module, name, value)

    def _heal(self) -> None:
        self.outbox.is_available, self.outbox.delay_seconds = True, 0.0
        self.gateway.visibility.slow_seconds.clear()
        self.outbox.recover()
        for chain in self.chains:
            if chain.client is not None:
                chain.client.proceed()
        self.loop.run_for(20)
        self._check_complete()

    def _check_complete(self) -> None:
        self.gateway.check()
        for chain in self.chains:
            if chain.client is not None and not chain.client.is_ended:
                chain.account.check_complete()

    def _announce(self, batch: Batch, fate: str) -> None:
        if fate == "late":
            self.late.append(batch)
        elif fate != "lost":
            for _ in range(2 if fate == "twice" else 1):
                self.gateway.publish(batch, without_tables=fate == "bare")


TestFanout = FanoutMachine.TestCase
TestFanout.settings = settings(
    max_examples=MORE or 40,
    stateful_step_count=50,
    derandomize=not MORE,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    print_blob=False,
    database=None,
    suppress_health_check=list(HealthCheck),
)
