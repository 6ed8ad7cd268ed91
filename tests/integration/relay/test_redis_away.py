"""A Redis that the relay has never reached: said once in the log, and in readiness."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from devstack.servers import free_port
from relay.app import Relay
from relay.health import Health
from relay.metrics import RelayMetrics
from tests.integration.relay.conftest import eventually, is_leading


@pytest.mark.parametrize(("scheme", "reason"), [("redis", "Connect call"), ("rediss", "TLS")])
async def test_never_reached(relays, valkey_server, scheme, reason):
    """The relay records batches all the same and is ready, since gateways poll; it says what is
    wrong, also where the error itself says nothing (TLS to a port that speaks none).
    """
    port = free_port() if scheme == "redis" else valkey_server.port
    metrics = RelayMetrics()
    health = Health(metrics)
    settings = relays.settings(redis_url=f"{scheme}://127.0.0.1:{port}")
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            relay = Relay(settings, health=health, metrics=metrics)
            task = group.create_task(relay.run())
            await eventually(lambda: is_leading(metrics) and reason in health.page[1])
            await asyncio.sleep(1)  # several attempts
            task.cancel()
    assert health.page[0] == 200
    assert f"redis 127.0.0.1:{port}: " in health.page[1]
    (line,) = [entry for entry in logs if entry["event"] == "redis unavailable"]
    assert reason in line["error"]
