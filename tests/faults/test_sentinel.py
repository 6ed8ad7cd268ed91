"""Redis by Sentinels: relay and gateway follow the master, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis

from devstack.ports import HOST
from devstack.servers import ValkeyServer, free_port
from shared.redis import UNAVAILABLE, follow_master, redis_client
from tests.support.arena_fixtures import OpenArena
from tests.support.certificates import certificate
from tests.support.requirements import Requirements
from tests.support.sentinels import MASTER, Sentinel, Watched, watched_servers
from tests.support.waits import gateway_says


@pytest.fixture
async def watched(server_dir: Path, tmp_path: Path) -> AsyncIterator[Watched]:
    """A master, a replica and three Sentinels, which know each other."""
    with watched_servers(server_dir / f"watched-{tmp_path.name}") as found:
        await found.complete()
        yield found


async def test_failover_under_load(open_arena: OpenArena, watched: Watched):
    """When the master is killed, frozen, or demoted, relay and gateway publish and listen at the
    next one; each client receives every change once and in order.
    """
    arena = await open_arena(
        relay={"AYB_REDIS_URL": watched.url}, gateway={"AYB_REDIS_URL": watched.url}
    )
    async with arena.load(pause=0.3):
        await gateway_says(arena.stack, "ok", part="bus")
        first = await watched.master()
        await asyncio.to_thread(first.kill)
        second = await watched.successor_of(first)
        await gateway_says(arena.stack, "ok", part="bus")
        await arena.written(500)
        first.start()
        await watched.complete()
        second.pause()
        third = await watched.successor_of(second)
        await gateway_says(arena.stack, "ok", part="bus")
        second.resume()
        await arena.written(500)
        await watched.complete()
        await watched.fail_over()
        await watched.successor_of(third)
        await gateway_says(arena.stack, "ok", part="bus")
    await arena.settle()
    assert "s3cret" not in arena.stack.log("relay") + arena.stack.log("gateway")


async def test_the_newest_configuration_counts(watched: Watched):
    """A Sentinel that has missed a failover is not believed, and a master that was replaced while
    it stayed up is left.
    """
    first = await watched.master()
    client = redis_client(watched.url)
    try:
        await client.ping()
        following = asyncio.create_task(follow_master(client))
        watched.sentinels[0].pause()
        await watched.fail_over(by=1)
        successor = await watched.successor_of(first, of=watched.sentinels[1:])
        with pytest.raises(redis.ConnectionError, match=f"another master: .*:{successor.port}$"):
            await following
    finally:
        await client.aclose()
        watched.sentinels[0].resume()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda url: url.replace(f"/{MASTER}/", "/nobody/"), "no Sentinel knows a master called"),
        (lambda url: url.replace("an0ther", "wrong"), "no Sentinel answers: .*password"),
    ],
)
async def test_what_is_wrong_is_said(watched: Watched, edit, message: str):
    """A wrong name of the master, or a wrong password, is one clear line."""
    client = redis_client(edit(watched.url))
    try:
        with pytest.raises(UNAVAILABLE, match=message):
            await client.ping()
    finally:
        await client.aclose()


async def test_a_server_is_no_sentinel(valkey_server):
    """The address of a Redis instead of a Sentinel's is called that."""
    client = redis_client(f"redis+sentinel://127.0.0.1:{valkey_server.port}/mymaster")
    try:
        with pytest.raises(UNAVAILABLE, match="but a Redis server answers there"):
            await client.ping()
    finally:
        await client.aclose()


class _TlsServer(ValkeyServer):
    """A server that speaks TLS alone."""

    def _is_ready(self) -> bool:
        return _listens(self.port)


class _TlsSentinel(Sentinel):
    """A Sentinel that speaks TLS alone."""

    def _is_ready(self) -> bool:
        return _listens(self.port)


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


async def test_tls_to_sentinel_and_master(
    require: Requirements, server_dir: Path, tmp_path: Path
) -> None:
    """Both are reached over TLS, and their certificates are checked."""
    program = require.program("redis-server", package="redis-server")
    own, another = certificate(tmp_path, "own"), certificate(tmp_path, "another")
    folder = server_dir / f"tls-{tmp_path.name}"
    folder.mkdir()
    secured = {
        "port": "0",
        "tls-cert-file": str(own),
        "tls-key-file": str(own.with_suffix(".key")),
        "tls-ca-cert-file": str(own),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }
    port, sentinel_port = free_port(), free_port()
    settings = {**secured, "tls-port": str(port)}
    with _TlsServer(folder / "master", port=port, settings=settings, program=program):
        settings = {
            **secured,
            "tls-port": str(sentinel_port),
            f"sentinel monitor {MASTER} {HOST} {port}": "1",
        }
        with _TlsSentinel(
            folder / "sentinel", port=sentinel_port, settings=settings, program=program
        ):
            url = f"rediss+sentinel://{HOST}:{sentinel_port}/{MASTER}?ssl_ca_certs="
            async with asyncio.timeout(30):
                while not await _answers(f"{url}{own}"):  # noqa: ASYNC110 (the Sentinel looks first)
                    await asyncio.sleep(0.1)
            assert not await _answers(f"{url}{another}")


async def _answers(url: str) -> bool:
    client = redis_client(url)
    try:
        return bool(await client.ping())
    except UNAVAILABLE:
        return False
    finally:
        await client.aclose()
