"""A gateway's real parts, put together over the simulated outbox and clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from starlette.datastructures import Headers

from gateway.auth.api_key_watch import ApiKeyWatch
from gateway.auth.claims import Claims
from gateway.fanout import backlog as backlog_module
from gateway.fanout import bus as bus_module
from gateway.fanout import delivery as delivery_module
from gateway.fanout import heartbeat as heartbeat_module
from gateway.fanout import hub as hub_module
from gateway.fanout import lane as lane_module
from gateway.fanout import replay as replay_module
from gateway.fanout.backlog import Backlog
from gateway.fanout.bus import Bus
from gateway.fanout.delivery import Delivery
from gateway.fanout.epochs import Epochs
from gateway.fanout.heartbeat import Heartbeat
from gateway.fanout.hub import Hub
from gateway.fanout.replay import Replayer
from gateway.fanout.slow_tables import SlowTables
from gateway.metrics import GatewayMetrics
from gateway.streams import connection as connection_module
from gateway.streams.drain import Drain
from gateway.streams.limits import StreamLimits
from gateway.tables.catalog import Table
from gateway.visibility.answer import EVERYBODY, Answer
from gateway.web.admission import Admission
from gateway.web.authentication import Authentication
from gateway.web.cors import CorsPolicy
from gateway.web.stream import StreamEndpoint
from gateway.web.stream_request import StreamRequest
from shared.change import Batch, encode
from shared.channels import Channels
from shared.errors import DatabaseUnavailableError
from shared.position import Position
from tests.support.sse_client import Event, EventStreamParser
from tests.unit.gateway.fanout.simulation.event_loop import SimulatedLoop, VirtualTime
from tests.unit.gateway.fanout.simulation.outbox_model import OutboxModel

TABLES = {"public.a": 1, "public.b": 2, "public.c": 3}
MOST_FRAMES_A_TURN = 5_000
NEVER = 1e18


class RunawayError(AssertionError):
    """One client was written to without end while the loop did not turn."""


class Tables:
    """Stands for the catalog: the tables are there, and anybody may read them."""

    async def resolve(self, names: Any) -> list[Table]:
        return [Table(f"public.{name.table}", TABLES[f"public.{name.table}"]) for name in names]

    async def may_read(self, table: Table, role: str) -> bool:
        return True


class EverybodySees:
    """Stands for visibility: one question takes a while, fails without a database, allows all.

    About a slow table the first of several users is postponed, where that is allowed; in every
    second question since the user is costly.
    """

    def __init__(self, outbox: OutboxModel) -> None:
        self._outbox = outbox
        self.slow_seconds: dict[int, float] = {}
        self._questions = 0

    def plan_of(self, relid: int, role: str) -> None:
        """Know no plan."""

    async def ask(
        self, relid: int, audience: Any, images: Any, lsn: int, *, may_postpone: bool
    ) -> Answer[Any]:
        seconds = self.slow_seconds.get(relid, 0.0)
        await asyncio.sleep(self._outbox.delay_seconds + seconds)
        if not self._outbox.is_available:
            raise DatabaseUnavailableError
        grouping = audience.grouped(("ayb.user_id",))
        self._questions += 1
        is_postponing = may_postpone and seconds > 0 and len(grouping) > 1
        is_costly = is_postponing and self._questions % 2 == 0
        return Answer(
            frozenset({"id"}),
            grouping,
            [EVERYBODY] * len(images),
            postponed=frozenset([0] if is_postponing else []),
            costly=frozenset([0] if is_costly else []),
        )


class JudgedAdmission(Admission):
    """Admits every request under a role, so that visibility is asked, as one of three users."""

    _requests = 0

    async def check(
        self, headers: Headers, query_string: bytes, address: str = ""
    ) -> StreamRequest:
        self._requests += 1
        user = Claims(f"user {self._requests % 3}", "", "", "{}", "r", NEVER)
        checked = await super().check(headers, query_string, address)
        identity = replace(checked.identity, role="r", claims=user, settings=user.settings())
        return replace(checked, identity=identity)


class Client:
    """One HTTP request and its stream: what it was sent, and how fast it reads."""

    def __init__(
        self,
        gateway: SimulatedGateway,
        tables: frozenset[str],
        last_event_id: str,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self.tables = tables
        self.parser = EventStreamParser(last_event_id)
        self.events: list[Event] = []
        self.raw: list[bytes] = []
        self.status = 0
        self.is_ended = False
        self._room = asyncio.Event()
        self._room.set()
        self._gone = asyncio.Event()
        self._frames = 0
        self._backlog = gateway.backlog
        self._loop = gateway.loop
        self.epochs = gateway.backlog.epochs
        self._epochs_at_pause: Epochs | None = None
        self._on_event = on_event
        query = ",".join(sorted(t.removeprefix("public.") for t in tables))
        scope = {
            "type": "http",
            "path": "/api/realtime",
            "method": "GET",
            "query_string": f"tables={query}".encode(),
            "client": ("127.0.0.1", 1),
            "headers": [(b"accept", b"text/event-stream")]
            + ([(b"last-event-id", last_event_id.encode())] if last_event_id else []),
        }
        self._task = gateway.spawn(self._serve(gateway, scope), "client")

    def pause(self) -> None:
        """Read nothing from now on."""
        if self._room.is_set():
            self._room.clear()
            self._epochs_at_pause = self._backlog.epochs

    def proceed(self) -> None:
        """Read on; what was pending until now had been written before."""
        if not self._room.is_set():
            self._room.set()
            self._loop.call_later(0.1, self._forget_pause)

    def leave(self) -> None:
        """Close the socket."""
        self._gone.set()
        self._room.set()

    def is_known_to_stand(self, position: Position) -> bool:
        """Whether the gateway took a position for a good one when it wrote it."""
        return any(
            epochs.holds(position.epoch, position.batch)
            for epochs in (self.epochs, self._epochs_at_pause)
            if epochs is not None
        )

    def _forget_pause(self) -> None:
        if self._room.is_set():
            self._epochs_at_pause = None

    async def _serve(self, gateway: SimulatedGateway, scope: Any) -> None:
        try:
            with contextlib.suppress(ConnectionError):  # as the app does
                await gateway.endpoint(scope, self._receive, self._send)
        finally:
            self.is_ended = True

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        epochs = self._backlog.epochs  # what the gateway knows when it writes
        if not self._room.is_set():
            await self._room.wait()
        if self._gone.is_set():
            raise ConnectionResetError("gone")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        loop = asyncio.get_running_loop()
        if not self._frames:
            loop.call_soon(self._turned)
        self._frames += 1
        if self._frames > MOST_FRAMES_A_TURN:
            raise RunawayError
        body = message.get("body", b"")
        self.raw.append(body)
        if self.status == 200:
            self.epochs = epochs
            for event in self.parser.feed(body):
                self.events.append(event)
                self._on_event(event)

    def _turned(self) -> None:
        self._frames = 0


class SimulatedGateway:
    """The fan-out of one gateway."""

    def __init__(
        self,
        loop: SimulatedLoop,
        outbox: OutboxModel,
        *,
        is_judging: bool,
        ring_bytes: int = 4_000,
        pending_bytes: int = 400,
    ) -> None:
        self.loop = loop
        self.outbox = outbox
        self.failures: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        metrics = GatewayMetrics()
        self.backlog = Backlog(
            outbox, most_bytes=ring_bytes, max_record_bytes=1_000, metrics=metrics
        )
        self.bus = Bus(
            "redis://simulated",
            key=None,
            channel_prefix=None,
            backlog=self.backlog,
            metrics=metrics,
        )
        slow_tables = SlowTables()
        self.visibility = EverybodySees(outbox)
        delivery = Delivery(
            visibility=self.visibility if is_judging else None,  # type: ignore[arg-type]
            backlog=self.backlog,
            deletes="all",
            metrics=metrics,
            slow_tables=slow_tables,
            pool_connections=4,
        )
        self.hub = Hub(backlog=self.backlog, bus=self.bus, delivery=delivery, metrics=metrics)
        self.replayer = Replayer(
            hub=self.hub,
            backlog=self.backlog,
            delivery=delivery,
            slow_tables=slow_tables,
            metrics=metrics,
        )
        self.hub.divert_to(self.replayer)
        self.heartbeat = Heartbeat(
            hub=self.hub, replayer=self.replayer, backlog=self.backlog, seconds=5.0
        )
        admission = (JudgedAdmission if is_judging else Admission)(
            authentication=Authentication(
                verifier=None,
                anonymous_role=None,
                roles=None,  # type: ignore[arg-type]
            ),
            catalog=Tables(),  # type: ignore[arg-type]
            hub=self.hub,
            backlog=self.backlog,
            drain=Drain(seconds=1),
        )
        self.endpoint = StreamEndpoint(
            admission=admission,
            limits=StreamLimits(most=1_000, most_per_user=1_000),
            hub=self.hub,
            replayer=self.replayer,
            backlog=self.backlog,
            key_watch=ApiKeyWatch(None),
            metrics=metrics,
            cors=CorsPolicy(("*",)),
            most_pending_bytes=pending_bytes,
            spawn=self.spawn,
        )

    def start(self) -> None:
        """Start the gateway's own tasks."""
        for name, work in (
            ("bus poll", self.bus._poll_while_silent()),
            ("bus history", self._follow_history()),
            ("backlog", self.backlog.run()),
            ("hub", self.hub.run()),
            ("replayer", self.replayer.run()),
            ("heartbeat", self.heartbeat.run()),
        ):
            self.spawn(work, name)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def publish(self, batch: Batch, *, without_tables: bool = False) -> None:
        """Let the messages of a batch arrive over the bus."""
        channels, history = self.bus._channels, self.outbox.history
        if not without_tables:
            for message in batch.messages(history):
                if message.content.table in self.bus._tables:
                    self.arrive(channels.table(message.content.table), encode(message))
        self.arrive(channels.tick, encode(batch.tick(history)))

    def arrive(self, channel: str, data: bytes) -> None:
        self.bus._on_message(channel.encode(), data)

    async def _follow_history(self) -> None:
        while True:
            self.bus._history = await self.backlog.history_other_than(self.bus._history)
            self.bus._channels = Channels.of(self.bus._history)

    def check(self) -> None:
        """Raise what a task has failed with."""
        for failure in self.failures:
            raise failure

    def stop(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.remove_done_callback(self._ended)
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self.failures.append(failure)


class _Silence:
    def info(self, *_: object, **__: object) -> None: ...

    warning = error = info


def silence(patch: Any) -> None:
    """Let the modules under simulation log nothing: thousands of runs would."""
    for module in (backlog_module, bus_module, hub_module, lane_module, replay_module):
        patch(module, "log", _Silence())


def patch_time(loop: SimulatedLoop, patch: Any) -> None:
    """Let the modules under simulation read the simulated clock."""
    clock = VirtualTime(loop)
    for module in (
        backlog_module,
        bus_module,
        connection_module,
        delivery_module,
        heartbeat_module,
        hub_module,
        lane_module,
        replay_module,
    ):
        if hasattr(module, "time"):
            patch(module, "time", clock)
