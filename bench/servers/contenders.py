"""Ours and the peers that write one event to many streams, each started with its streams open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.load.programs import LoadClient, WriteLoop
from bench.meters.process_cpu import cpu_seconds
from bench.peers.nchan import Nchan
from bench.peers.server import FastAPIServer, Node
from bench.reports.figure import OURS
from bench.servers.stack import BenchStack
from devstack.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from contextlib import AsyncExitStack

    from bench.peers.server import PeerServer
    from bench.reports.report import Report

LOOP: Final = "loop in C"
_REST_SECONDS: Final = 0.3
_ONE_BY_ONE: Final = 100
"""How many events of a burst a peer gets that writes each of them to each client by itself."""
EVENT: Final = (
    '{"action":"create","table":"posts","record":{"id":%d,"title":"New Post","published":true}}'
)
SCHEMA: Final = """
CREATE TABLE public.posts (id bigint PRIMARY KEY, title text NOT NULL, published boolean NOT NULL);
ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.posts TO ayb_authenticated;
CREATE POLICY readable ON public.posts FOR SELECT TO ayb_authenticated USING (published)
"""


@dataclass
class Contender:
    """A server with streams, and the way to publish to all of them."""

    name: str
    client: LoadClient
    publish: Callable[[int], Awaitable[None]]
    """Publishes so many events."""
    pid: int
    """The process that writes."""
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    """Of the request for a stream."""
    cpu: Callable[[], float] | None = None
    """The CPU seconds so far, if they are not those of the process."""
    most_at_once: int = 10_000_000
    """How many events a burst has at most: a contender that writes each by itself gets fewer."""
    costs: list[float] = field(default_factory=list)
    """Microseconds of CPU time for each delivery, by turn."""
    client_costs: list[float] = field(default_factory=list)
    """The same of the load client."""

    async def open(self, streams: int) -> None:
        """Open so many streams more."""
        await self.client.open(streams, self.path, **self.headers)

    async def check_rest(self, events: int) -> None:
        """Fail if a stream has more than so many events a moment after it had them."""
        await asyncio.sleep(_REST_SECONDS)
        await self.client.expect(events)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that writing has taken so far."""
        return cpu_seconds(self.pid) if self.cpu is None else self.cpu()

    def forget(self) -> None:
        """Drop what was measured while everything warmed up."""
        self.costs.clear()
        self.client_costs.clear()

    def add(self, cpu_before: float, client_cpu: float, deliveries: int) -> None:
        """Note what a turn cost."""
        self.costs.append((self.cpu_seconds() - cpu_before) / deliveries * 1e6)
        self.client_costs.append(client_cpu / deliveries * 1e6)


async def take_turns(
    report: Report,
    contenders: list[Contender],
    turn: int,
    action: Callable[[Contender], Awaitable[None]],
) -> None:
    """Let contenders act one after the other, each second time from the last to the first.

    A peer that fails is left out from then on.
    """
    for contender in contenders[:] if turn % 2 else contenders[::-1]:
        is_done = False
        with peer_may_fail(report, contender.name):
            await action(contender)
            is_done = True
        if not is_done:
            contenders.remove(contender)


Opener = Callable[["AsyncExitStack"], "Awaitable[Contender]"]
"""Starts a contender, without streams."""


async def open_contenders(
    exits: AsyncExitStack, report: Report, clients: int, *, joined: int = 1
) -> list[Contender]:
    """Start everyone who can be had, with so many streams each; the loop in C joins its writes."""
    openers = gateway_openers(clients) | peer_openers(report)
    openers[LOOP] = partial(open_loop, joined=joined)
    found = []
    for name, opener in openers.items():
        with peer_may_fail(report, name):
            contender = await opener(exits)
            await contender.open(clients)
            found.append(contender)
    return found


@contextmanager
def peer_may_fail(report: Report, name: str) -> Iterator[None]:
    """Leave a peer out if it fails, and go on; what ours raises is raised."""
    try:
        yield
    except (OSError, EOFError, RuntimeError) as error:
        if name == OURS:
            raise
        report.leave_out(name, f"it failed: {error}")


def gateway_openers(clients: int, *, are_users: bool = False) -> dict[str, Opener]:
    """Return ours, and with AYB_BENCH_BEFORE=PATH another checkout; a user each `are_users`."""
    sources = {OURS: Path(__file__).parents[2]}
    if before := os.environ.get("AYB_BENCH_BEFORE"):
        sources["before"] = Path(before)
    return {
        name: partial(open_gateway, clients=clients, name=name, source=source, are_users=are_users)
        for name, source in sources.items()
    }


def peer_openers(report: Report) -> dict[str, Opener]:
    """Return the peers that can be had; the report names the others."""
    reasons: dict[str, str | None] = {
        "nchan": Nchan.why_not(),
        "Node": Node.why_not(),
        "StreamingResponse": FastAPIServer.why_not("streaming"),
        "sse-starlette": FastAPIServer.why_not("sse"),
    }
    openers: dict[str, Opener] = {
        "nchan": open_nchan,
        "Node": partial(open_server, make=Node),
        "StreamingResponse": partial(open_server, make=partial(FastAPIServer, "streaming")),
        "sse-starlette": partial(open_server, make=partial(FastAPIServer, "sse")),
    }
    for name, reason in reasons.items():
        if reason is not None:
            report.leave_out(name, reason)
            del openers[name]
    return openers


async def open_gateway(
    exits: AsyncExitStack, *, clients: int, name: str, source: Path, are_users: bool
) -> Contender:
    """Start a whole stack from a checkout, for so many clients."""
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
    await client.use_tokens(stack.tokens(clients if are_users else 1))
    number = 0

    async def publish(events: int) -> None:
        nonlocal number
        first, number = number + 1, number + events
        await connection.execute(
            "INSERT INTO posts SELECT g, 'New Post', true FROM generate_series($1::int, $2::int) g",
            first,
            number,
        )

    return Contender(
        name,
        client,
        publish,
        stack.gateway_pid,
        "/api/realtime?tables=posts",
        {"Authorization": "Bearer %t"},
    )


async def open_nchan(exits: AsyncExitStack) -> Contender:
    """Start nginx with nchan, which is given events by POST."""
    nchan = await exits.enter_async_context(Nchan())
    client = await exits.enter_async_context(LoadClient(nchan.port, opened=": hi"))

    async def publish(events: int) -> None:
        for number in range(events):
            await nchan.publish(EVENT % number)

    return Contender("nchan", client, publish, nchan.worker_pid, "/sub", most_at_once=_ONE_BY_ONE)


async def open_server(exits: AsyncExitStack, *, make: Callable[[], PeerServer]) -> Contender:
    """Start a peer that is one process."""
    server = await exits.enter_async_context(make())
    client = await exits.enter_async_context(LoadClient(server.port))

    async def publish(events: int) -> None:
        for number in range(events):
            await server.publish(EVENT % number)

    return Contender(
        server.name, client, publish, server.pid, server.path, most_at_once=_ONE_BY_ONE
    )


async def open_loop(exits: AsyncExitStack, *, joined: int) -> Contender:
    """Start the loop in C, which makes its events itself and measures its own writing."""
    port = free_port()
    loop = await exits.enter_async_context(WriteLoop(port))
    client = await exits.enter_async_context(LoadClient(port))
    spent = 0.0

    async def publish(events: int) -> None:
        nonlocal spent
        spent += await loop.publish(events, joined=min(joined, events))

    return Contender(LOOP, client, publish, loop.process.pid, "/", cpu=lambda: spent)
