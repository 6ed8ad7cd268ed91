"""The rendered pods, run as processes: installed, rolled, scaled, killed, all under load.

No cluster: each container's arguments and environment are taken from the rendered Deployments and
run here, with ports of this machine; readiness is asked as the probes ask, and pods end as they end
in Kubernetes, by SIGTERM within their grace period. Readers connect to any pod that is ready, as
through the Service.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from devstack.ports import free_port
from tests.support.arena import Arena
from tests.support.chart import Manifest, Values, changed, environment, manifests, pods
from tests.support.fault_world import CAPTURED
from tests.support.stack import JWT_SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.arena_fixtures import OpenArena
    from tests.support.databases import Database

GATEWAY = "demo-ayb-realtime-gateway"
RELAY = "demo-ayb-realtime-relay"


def values_for(database: Database, redis_url: str) -> Values:
    """Values for one region on the servers of the test."""
    return {
        "database": {
            "relay": {"url": database.relay_dsn},
            "gateway": {"url": database.gateway_dsn},
        },
        "redis": {"urls": [redis_url]},
        "auth": {"jwtSecret": {"value": JWT_SECRET}},
        "busKey": {"value": "a key of the bus, of 32 characters"},
        "realtime": {"tables": CAPTURED.split(","), "heartbeatSeconds": 1},
        "gateway": {"drainSeconds": 2, "drainDelaySeconds": 1},
    }


class Cluster:
    """The pods of a release, as processes of a stack."""

    def __init__(self, arena: Arena, values: Values) -> None:
        self._stack = arena.stack
        self._random = arena.random
        self._ready: list[str] = []
        self._made = 0
        self.apply(values)

    def apply(self, values: Values) -> None:
        """Render: pods that start from now on are of these values."""
        self._rendered = manifests(values)
        self._pods = pods(self._rendered)

    def any_gateway(self) -> str:
        """A gateway that is ready, as the Service chooses one."""
        return self._stack.url(self._random.choice(self._ready))

    @property
    def gateways(self) -> list[str]:
        """The gateways that are ready, the oldest first."""
        return list(self._ready)

    def relay_environment(self) -> Mapping[str, str]:
        """What the relay's pod gets."""
        return self._environment(RELAY)

    async def start_gateway(self) -> str:
        """Start a gateway pod; it gets connections once it is ready."""
        self._made += 1
        name = f"gateway-{self._made}"
        assert self._pods[GATEWAY]["containers"][0]["args"] == ["gateway"]
        settings = {
            **self._environment(GATEWAY),
            "AYB_SERVER_PORT": str(free_port()),
            "AYB_MANAGEMENT_PORT": str(free_port()),
        }
        await self._stack.add_gateway(name, **settings)
        self._ready.append(name)
        return name

    async def end_gateway(self, name: str) -> None:
        """End a gateway pod: out of the Service, and SIGTERM at the same time."""
        self._ready.remove(name)
        grace_seconds = self._pods[GATEWAY]["terminationGracePeriodSeconds"]
        began = time.monotonic()
        assert await self._stack.stop(name) == 0
        assert time.monotonic() - began < grace_seconds

    async def kill_gateway(self, name: str) -> None:
        """Lose a gateway pod at once."""
        self._ready.remove(name)
        await self._stack.kill(name)

    async def roll_gateways(self) -> None:
        """Replace every gateway, each by one that is ready first (maxUnavailable is 0)."""
        for old in self.gateways:
            await self.start_gateway()
            await self.end_gateway(old)

    def _environment(self, name: str) -> dict[str, str]:
        pod: Manifest = self._pods[name]
        return environment(pod, self._rendered, {})


async def test_rollouts_scaling_and_lost_pods(
    open_arena: OpenArena, database: Database, own_valkey: Any
) -> None:
    """Through upgrade, scaling, a killed pod and a rollback each client gets all of its events."""
    values = values_for(database, own_valkey.url)
    relay = environment(pods(manifests(values))[RELAY], manifests(values), {})
    relay.pop("AYB_RELAY_PORT")
    arena: Arena = await open_arena(relay=relay, readers=False)
    await arena.stack.stop("gateway")  # the arena's own; the pods take its place
    cluster = Cluster(arena, values)
    await cluster.start_gateway()
    await cluster.start_gateway()
    arena.add_readers(cluster.any_gateway)
    async with arena.load(pause=0.05, changes=6_000):
        # Upgrade: the relay's standby first, then the gateways, one by one.
        upgraded = changed(values, "realtime.maxConnectionsPerUser", 50)
        cluster.apply(upgraded)
        await arena.stack.restart("relay")
        await cluster.roll_gateways()
        # Scale 2 to 4 to 2.
        await asyncio.gather(cluster.start_gateway(), cluster.start_gateway())
        await arena.written(300)
        for name in cluster.gateways[:2]:
            await cluster.end_gateway(name)
        # A pod is lost, and another takes its place.
        await cluster.kill_gateway(cluster.gateways[0])
        await cluster.start_gateway()
        await arena.written(300)
        # Roll back.
        cluster.apply(values)
        await cluster.roll_gateways()
    await arena.settle()
