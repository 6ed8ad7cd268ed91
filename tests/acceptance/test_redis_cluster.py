"""Relay and gateway at nodes of a Redis Cluster: pub/sub reaches every node from every other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import redis.asyncio as redis

from devstack.servers import ValkeyServer, free_port
from tests.support.waits import gateway_says

if TYPE_CHECKING:
    from tests.support.stack_fixtures import StartStack

_NODES = 3
_SLOTS = 16_384


@pytest.fixture
async def nodes(server_dir: Path, tmp_path: Path) -> AsyncIterator[list[ValkeyServer]]:
    """Three masters that share the slots."""
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(_NODES):
            settings = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
            folder = server_dir / f"cluster-{tmp_path.name}-{number}"
            server = ValkeyServer(folder, port=free_port(), settings=settings)
            found.append(stack.enter_context(server))
        bus = found[0].settings["cluster-port"]
        for number, server in enumerate(found):
            async with redis.from_url(server.url) as node:
                first, last = number * _SLOTS // _NODES, (number + 1) * _SLOTS // _NODES - 1
                await node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                if number:
                    await node.execute_command("CLUSTER", "MEET", "127.0.0.1", found[0].port, bus)
        async with asyncio.timeout(30):
            for server in found:
                async with redis.from_url(server.url) as node:
                    while not await _is_formed(node):  # noqa: ASYNC110 (the nodes do it)
                        await asyncio.sleep(0.1)
        yield found


async def test_relay_and_gateways_at_different_nodes(
    start_stack: StartStack, nodes: list[ValkeyServer]
) -> None:
    """What the relay publishes at one node is pushed to gateways at the others, without a poll of
    the outbox and without a redirection.
    """
    stack = await start_stack(
        relay={"AYB_REDIS_URL": nodes[0].url},
        gateway={"AYB_REDIS_URL": nodes[1].url},
    )
    await stack.add_gateway("third", AYB_REDIS_URL=nodes[2].url)
    await stack.create(
        "CREATE TABLE posts (id int PRIMARY KEY); GRANT SELECT ON posts TO ayb_authenticated",
        "posts",
    )
    for name in ("gateway", "third"):
        await gateway_says(stack, "ok", part="bus", gateway=name)
        async with stack.stream("posts", token=stack.token(), gateway=name) as client:
            await client.connected()
            before = await _outbox_reads(stack.url(name))
            await stack.sql("INSERT INTO posts SELECT coalesce(max(id), 0) + 1 FROM posts")
            assert (await client.next_message()).json()["action"] == "create"
            assert await _outbox_reads(stack.url(name)) == before
        log = stack.log(name)
        assert "MOVED" not in log
        assert "redis unavailable" not in log


async def _outbox_reads(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"{url}/metrics")).text.splitlines()
    [line] = [line for line in lines if line.startswith("ayb_outbox_reads_total ")]
    return line


async def _is_formed(node: redis.Redis) -> bool:
    info: bytes = await node.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info
