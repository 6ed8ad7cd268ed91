"""The Redis client, on the event loop that gateways use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.web.event_loop import loop_factory
from shared.redis import UNAVAILABLE, redis_client


def test_a_lost_connection_is_told_as_such(valkey_server):
    """A write to a connection that has been lost raises Redis' own error, and nothing else."""

    async def write_to_a_lost_connection() -> None:
        client = redis_client(valkey_server.url)
        try:
            pubsub = client.pubsub()
            await pubsub.subscribe("here")
            # As the kernel does with a connection that its peer has reset.
            connection: Any = pubsub.connection
            connection._writer.transport.abort()
            await asyncio.sleep(0.01)
            await pubsub.unsubscribe("here")
        finally:
            await client.aclose()

    with (
        asyncio.Runner(loop_factory=loop_factory()) as runner,
        pytest.raises(UNAVAILABLE),
    ):
        runner.run(write_to_a_lost_connection())
