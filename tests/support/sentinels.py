"""A Valkey master with its replicas, and the Sentinels that watch them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis.asyncio as redis

from devstack.ports import HOST
from devstack.process import Child
from devstack.servers import ValkeyServer, free_port

MASTER = "mymaster"
PASSWORD = "s3cret,with a comma"
SENTINEL_PASSWORD = "an0ther"


class Watched:
    """Servers, the first of which begins as the master, and Sentinels."""

    def __init__(self, servers: Sequence[ValkeyServer], sentinels: Sequence[ValkeyServer]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """The URL of the master, whichever it is."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        password = PASSWORD.replace(",", "%2C").replace(" ", "%20")
        return (
            f"redis+sentinel://:{password}@{hosts}/{MASTER}/0?sentinel_password={SENTINEL_PASSWORD}"
        )

    async def master(self) -> ValkeyServer:
        """Return the server that the Sentinels name, once they agree about a healthy one."""
        return await self._agreed(self.servers, self.sentinels)

    async def successor_of(
        self, master: ValkeyServer, *, of: Sequence[ValkeyServer] | None = None
    ) -> ValkeyServer:
        """Return the next master, once all Sentinels, or those given, name it."""
        others = [server for server in self.servers if server is not master]
        return await self._agreed(others, of or self.sentinels)

    async def fail_over(self, *, by: int = 0) -> None:
        """Have a Sentinel replace a master that is well."""
        async with self._client(self.sentinels[by]) as client:
            await client.sentinel_failover(MASTER)

    async def complete(self) -> None:
        """Wait until every Sentinel knows the other Sentinels and every replica."""
        others, replicas = len(self.sentinels) - 1, len(self.servers) - 1
        async with asyncio.timeout(60):
            for sentinel in self.sentinels:
                while await self._known_by(sentinel) != (others, replicas):  # noqa: ASYNC110 (a server finds them)
                    await asyncio.sleep(0.1)

    async def _agreed(
        self, servers: Sequence[ValkeyServer], sentinels: Sequence[ValkeyServer]
    ) -> ValkeyServer:
        async with asyncio.timeout(60):
            while True:
                named = {await self._named_by(sentinel) for sentinel in sentinels}
                for server in servers:
                    if named == {server.port}:
                        return server
                await asyncio.sleep(0.1)

    async def _named_by(self, sentinel: ValkeyServer) -> int | None:
        state = await self._state(sentinel)
        port: int = state["port"]
        return port if state["flags"] == "master" else None

    async def _known_by(self, sentinel: ValkeyServer) -> tuple[int, int]:
        state = await self._state(sentinel)
        return state["num-other-sentinels"], state["num-slaves"]

    async def _state(self, sentinel: ValkeyServer) -> dict[str, Any]:
        async with self._client(sentinel) as client:
            state: dict[str, Any] = await client.sentinel_master(MASTER)  # type: ignore[assignment]
            return state

    @staticmethod
    def _client(sentinel: ValkeyServer) -> redis.Redis:
        return redis.Redis(
            host=HOST, port=sentinel.port, password=SENTINEL_PASSWORD, decode_responses=True
        )


class Sentinel(ValkeyServer):
    """A Sentinel: a Valkey that is started with a file of settings, which it rewrites."""

    name = "Sentinel"

    def start(self) -> None:
        """Start with the settings of the file as they are now."""
        file = self.data_dir / "sentinel.conf"
        if not file.exists():
            self.data_dir.mkdir(parents=True)
            options = {"bind": HOST, "port": str(self.port), "dir": self.data_dir, **self.settings}
            file.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        self._wait_until_ready(
            Child(
                self.name,
                [self._program, file, "--sentinel"],
                log=self.log,
                directory=self.data_dir,
            )
        )


@contextlib.contextmanager
def watched_servers(folder: Path, *, replicas: int = 1, sentinels: int = 3) -> Iterator[Watched]:
    """Run a master, its replicas and Sentinels that need two votes to move on."""
    secured = {"requirepass": PASSWORD, "masterauth": PASSWORD, "repl-diskless-sync-delay": "0"}
    with contextlib.ExitStack() as stack:
        master = ValkeyServer(folder / "master", port=free_port(), settings=secured)
        servers = [stack.enter_context(master)]
        for number in range(replicas):
            settings = {**secured, "replicaof": f"{HOST} {master.port}"}
            server = ValkeyServer(folder / f"replica{number}", port=free_port(), settings=settings)
            servers.append(stack.enter_context(server))
        watching = []
        for number in range(sentinels):
            settings = {
                "requirepass": SENTINEL_PASSWORD,
                f"sentinel monitor {MASTER} {HOST} {master.port}": "2",
                f"sentinel auth-pass {MASTER}": f'"{PASSWORD}"',
                f"sentinel down-after-milliseconds {MASTER}": "1000",
                f"sentinel failover-timeout {MASTER}": "5000",
            }
            sentinel = Sentinel(folder / f"sentinel{number}", port=free_port(), settings=settings)
            watching.append(stack.enter_context(sentinel))
        yield Watched(servers, watching)
