"""Ours and the peers that write one event to many streams, each started with its streams open."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.figure import OURS
from bench.load import LoadClient, WriteLoop
from bench.peers.nchan import Nchan
from bench.peers.server import FastAPIServer, Node
from bench.process_cpu import cpu_seconds
from bench.stack import BenchStack
from devstack.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

    from bench.peers.server import PeerServer
    from bench.report import Report

LOOP: Final = "loop in C"
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
    cpu: Callable[[], float]
    """The CPU seconds that the writing process has used so far."""
    most_at_once: int = 10_000_000
    """How many events a burst has at most: a contender that writes each by itself gets fewer."""
    costs: list[float] = field(default_factory=list)
    """Microseconds of CPU time for each delivery, by turn."""
    client_costs: list[float] = field(default_factory=list)
    """The same of the load client."""

    def forget(self) -> None:
        """Drop what was measured while everything warmed up."""
        self.costs.clear()
        self.client_costs.clear()

    def add(self, cpu_before: float, client_cpu: float, deliveries: int) -> None:
        """Note what a turn cost."""
        self.costs.append((self.cpu() - cpu_before) / deliveries * 1e6)
        self.client_costs.append(client_cpu / deliveries * 1e6)


async def open_contenders(
    exits: AsyncExitStack, report: Report, clients: int, *, joined: int = 1
) -> list[Contender]:
    """Start everyone who can be had, with so many streams each; the loop in C joins its writes."""
    found = [await open_gateway(exits, clients, OURS, Path(__file__).parents[1])]
    if before := os.environ.get("AYB_BENCH_BEFORE"):
        found.append(await open_gateway(exits, clients, "before", Path(before)))
    if reason := Nchan.why_not():
        report.leave_out("nchan", reason)
    else:
        found.append(await open_nchan(exits, clients))
    found += [await open_peer(exits, server, clients) for server in peer_servers(report)]
    found.append(await open_loop(exits, clients, joined))
    return found


def peer_servers(report: Report) -> list[PeerServer]:
    """Return the peers of one process that can be had; the report names the others."""
    servers: list[PeerServer] = []
    if reason := Node.why_not():
        report.leave_out("Node", reason)
    else:
        servers.append(Node())
    for kind in ("streaming", "sse"):
        if reason := FastAPIServer.why_not(kind):
            report.leave_out(kind, reason)
        else:
            servers.append(FastAPIServer(kind))
    return servers


async def open_peer(exits: AsyncExitStack, server: PeerServer, clients: int) -> Contender:
    """Start such a peer."""
    await exits.enter_async_context(server)
    client = await exits.enter_async_context(LoadClient(server.port))
    await client.open(clients, server.path)

    async def publish(events: int) -> None:
        for number in range(events):
            await server.publish(EVENT % number)

    return Contender(
        server.name, client, publish, lambda: cpu_seconds(server.pid), most_at_once=100
    )


async def open_gateway(exits: AsyncExitStack, clients: int, name: str, source: Path) -> Contender:
    """Start a whole stack from a checkout."""
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
    await client.open(
        clients, "/api/realtime?tables=posts", Authorization=f"Bearer {stack.token('user')}"
    )
    number = 0

    async def publish(events: int) -> None:
        nonlocal number
        first, number = number + 1, number + events
        await connection.execute(
            "INSERT INTO posts SELECT g, 'New Post', true FROM generate_series($1::int, $2::int) g",
            first,
            number,
        )

    return Contender(name, client, publish, lambda: cpu_seconds(stack.gateway_pid))


async def open_nchan(exits: AsyncExitStack, clients: int) -> Contender:
    """Start nginx with nchan, which is given events by POST."""
    nchan = await exits.enter_async_context(Nchan())
    client = await exits.enter_async_context(LoadClient(nchan.port, opened=": hi"))
    await client.open(clients, "/sub")

    async def publish(events: int) -> None:
        for number in range(events):
            await nchan.publish(EVENT % number)

    return Contender(
        "nchan", client, publish, lambda: cpu_seconds(nchan.worker_pid), most_at_once=100
    )


async def open_loop(exits: AsyncExitStack, clients: int, joined: int) -> Contender:
    """Start the loop in C, which makes its events itself."""
    port = free_port()
    loop = await exits.enter_async_context(WriteLoop(port))
    client = await exits.enter_async_context(LoadClient(port))
    await client.open(clients, "/")
    spent = 0.0

    async def publish(events: int) -> None:
        nonlocal spent
        spent += await loop.publish(events, joined=min(joined, events))

    return Contender(LOOP, client, publish, lambda: spent)
