"""The pods of a rendered chart, run as processes of a stack.

No cluster: each container's arguments and environment are taken from the rendered Deployments and
run here, with ports of this machine; readiness is asked as the probes ask, and pods end as they end
in Kubernetes, by SIGTERM within their grace period. Readers connect to any pod that is ready, as
through the Service, or through an nginx that is configured from the rendered Ingress.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from devstack.ports import free_port
from tests.support.chart import (
    Manifest,
    Values,
    environment,
    manifests,
    nginx_server,
    pods,
)
from tests.support.fault_world import CAPTURED
from tests.support.stack import JWT_SECRET, PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.arena import Arena
    from tests.support.databases import Database
    from tests.support.nginx import Nginx, OpenNginx

GATEWAY = "demo-ayb-realtime-gateway"
RELAY = "demo-ayb-realtime-relay"
TEST = "demo-ayb-realtime-test"


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


def pod_environment(values: Values, name: str, sources: Path = PROJECT) -> dict[str, str]:
    """Return the environment of a rendered pod, but for the ports, which are this machine's."""
    rendered = manifests(values, sources / "helm")
    found = environment(pods(rendered)[name], rendered, {})
    for port in ("AYB_RELAY_PORT", "AYB_SERVER_PORT", "AYB_MANAGEMENT_PORT"):
        found.pop(port, None)
    return found


class Cluster:
    """The pods of a release: those of the arena's own relay, and gateways that come and go."""

    def __init__(self, arena: Arena, values: Values, sources: Path = PROJECT) -> None:
        self._stack = arena.stack
        self._ingress: Nginx | None = None
        self._random = arena.random
        self._ready: list[str] = []
        self._relay = "relay"
        self._made = 0
        self.apply(values, sources)

    def apply(self, values: Values, sources: Path = PROJECT) -> None:
        """Render the chart of these sources: pods that start from now on are theirs."""
        self._values = values
        self._sources = sources
        self._rendered = manifests(values, sources / "helm")
        self._pods = pods(self._rendered)

    def open_ingress(self, open_nginx: OpenNginx) -> None:
        """Put an nginx before the gateways, as the rendered Ingress has it."""
        urls = [self._stack.url(name) for name in self._ready]
        self._ingress = open_nginx(*urls, server=nginx_server(self._rendered))

    def address(self) -> str:
        """Where clients connect: the ingress, or a gateway as the Service chooses one."""
        if self._ingress is not None:
            return self._ingress.url
        return self._stack.url(self._random.choice(self._ready))

    @property
    def gateways(self) -> list[str]:
        """The gateways that are ready, the oldest first."""
        return list(self._ready)

    async def start_gateway(self) -> str:
        """Start a gateway pod; it gets connections once it is ready."""
        name = self._name("gateway")
        assert self._pods[GATEWAY]["containers"][0]["args"] == ["gateway"]
        settings = self._environment(GATEWAY) | {"AYB_MANAGEMENT_PORT": str(free_port())}
        await self._stack.add_gateway(name, directory=self._sources, **settings)
        self._serve(*self._ready, name)
        return name

    async def end_gateway(self, name: str) -> None:
        """End a gateway pod: out of the Service, and SIGTERM at the same time."""
        self._serve(*(ready for ready in self._ready if ready != name))
        await self._end(name, self._pods[GATEWAY])

    async def kill_gateway(self, name: str) -> None:
        """Lose a gateway pod at once."""
        await self._stack.kill(name)
        self._serve(*(ready for ready in self._ready if ready != name))

    async def roll_gateways(self) -> None:
        """Replace every gateway, each by one that is ready first (maxUnavailable is 0)."""
        for old in self.gateways:
            await self.start_gateway()
            await self.end_gateway(old)

    async def start_relay(self) -> str:
        """Start a relay pod, which waits for the one that leads."""
        name = self._name("relay")
        assert self._pods[RELAY]["containers"][0]["args"] == ["relay", "run"]
        await self._stack.add_relay(name, directory=self._sources, **self._environment(RELAY))
        return name

    async def roll_relay(self) -> None:
        """Replace the relay: a new one waits to lead, then the old one ends."""
        old, self._relay = self._relay, await self.start_relay()
        await self._end(old, self._pods[RELAY])

    async def test(self) -> str:
        """Run the pod of `helm test` against a gateway and the relay; return what it prints.

        The names of the Services become addresses of this machine.
        """
        gateway = self._stack.environment(self._random.choice(self._ready))
        addresses = {
            "demo-ayb-realtime:80": gateway["AYB_SERVER_PORT"],
            "demo-ayb-realtime-gateway-management:8092": gateway["AYB_MANAGEMENT_PORT"],
            "demo-ayb-realtime-relay-management:8091": self._stack.environment(self._relay)[
                "AYB_RELAY_PORT"
            ],
        }
        arguments: list[str] = self._pods[TEST]["containers"][0]["args"]
        for name, port in addresses.items():
            arguments = [text.replace(f"//{name}", f"//127.0.0.1:{port}") for text in arguments]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments,
            env=self._environment(TEST), cwd=self._sources,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    def _serve(self, *names: str) -> None:
        self._ready = list(names)
        if self._ingress is not None:
            self._ingress.point_at(*(self._stack.url(name) for name in names))

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made}"

    async def _end(self, name: str, pod: Manifest) -> None:
        began = time.monotonic()
        assert await self._stack.stop(name) == 0
        assert time.monotonic() - began < pod["terminationGracePeriodSeconds"]

    def _environment(self, name: str) -> dict[str, str]:
        return pod_environment(self._values, name, self._sources)
