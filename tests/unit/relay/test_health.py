"""The relay's probes."""

from __future__ import annotations

import socket

import httpx
import pytest

from relay.health import Health
from relay.metrics import RelayMetrics
from shared.errors import OperatorError


async def test_probes_answer_over_http() -> None:
    """A probe says what the relay said last, notes on lines of their own; metrics are a page."""
    health = Health(RelayMetrics())
    async with health.serve("127.0.0.1", 0) as port, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}"
        answer = await client.get(f"{url}/readyz")
        assert (answer.status_code, answer.text) == (503, "starting\n")
        health.ready()
        health.note("leader", "pid 7")
        answer = await client.get(f"{url}/readyz")
        assert (answer.status_code, answer.text) == (200, "ok\nleader: pid 7\n")
        health.note("leader", None)
        health.not_ready("database unavailable")
        answer = await client.get(f"{url}/readyz")
        assert (answer.status_code, answer.text) == (503, "database unavailable\n")
        assert (await client.get(f"{url}/healthz")).text == "ok\n"
        assert "ayb_relay_leading 0.0" in (await client.get(f"{url}/metrics")).text
        assert (await client.get(f"{url}/other")).status_code == 404


async def test_port_in_use_is_one_line() -> None:
    """A port that is taken is an operator's error that names the settings."""
    health = Health(RelayMetrics())
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(OperatorError, match="AYB_RELAY_PORT"),
    ):
        async with health.serve("127.0.0.1", other.getsockname()[1]):
            pass
