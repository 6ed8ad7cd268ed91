"""The rendered pods, run as processes: installed, rolled, scaled, killed, all under load."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.support.chart import changed
from tests.support.cluster import RELAY, Cluster, pod_environment, values_for
from tests.support.fault_world import HOT_ROWS

if TYPE_CHECKING:
    from tests.support.arena import Arena
    from tests.support.arena_fixtures import OpenArena
    from tests.support.databases import Database
    from tests.support.nginx import OpenNginx


async def test_rollouts_scaling_and_lost_pods(
    open_arena: OpenArena, open_nginx: OpenNginx, database: Database, own_valkey: Any
) -> None:
    """`helm test` streams an event; then, through upgrade, scaling, a killed pod and a rollback,
    each client gets all of its events, through a proxy configured from the Ingress.
    """
    values = values_for(database, own_valkey.url)
    values["ingress"] = {"enabled": True, "host": "app.example.com"}
    values["tests"] = {
        "table": "posts",
        "sql": f"UPDATE posts SET body = 'a \"quoted\" text' WHERE id = {HOT_ROWS[0]}",
        "writer": {"url": database.dsn},
    }
    arena: Arena = await open_arena(relay=pod_environment(values, RELAY), readers=False)
    await arena.stack.stop("gateway")  # the arena's own; the pods take its place
    cluster = Cluster(arena, values)
    await cluster.start_gateway()
    await cluster.start_gateway()
    printed = await cluster.test()
    assert "received after" in printed
    assert "update of posts" in printed
    cluster.open_ingress(open_nginx)
    arena.add_readers(cluster.address)
    async with arena.load(pause=0.05, changes=6_000):
        # Upgrade: the relay's standby first, then the gateways, one by one.
        upgraded = changed(values, "realtime.maxConnectionsPerUser", 50)
        cluster.apply(upgraded)
        await cluster.roll_relay()
        await cluster.roll_gateways()
        # Scale 2 to 6 to 2.
        await asyncio.gather(*(cluster.start_gateway() for _ in range(4)))
        await arena.written(300)
        await asyncio.gather(*(cluster.end_gateway(name) for name in cluster.gateways[:4]))
        # A pod is lost, and another takes its place.
        await cluster.kill_gateway(cluster.gateways[0])
        await cluster.start_gateway()
        await arena.written(300)
        # Roll back.
        cluster.apply(values)
        await cluster.roll_gateways()
    await arena.settle()
