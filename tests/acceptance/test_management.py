"""The management port: what is for operators is not on the public one."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from devstack.servers import free_port

if TYPE_CHECKING:
    from tests.support.stack import Stack


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(url)


async def test_metrics_and_document_stand_on_the_management_port(start_stack: Any) -> None:
    """There, and not on the public port; health and readiness are on both, to the end."""
    port = free_port()
    stack: Stack = await start_stack(
        gateway={
            "AYB_MANAGEMENT_PORT": str(port),
            "AYB_REALTIME_DRAIN_DELAY_SECONDS": "0",
            "AYB_REALTIME_DRAIN_SECONDS": "5",
        }
    )
    public, management = stack.gateway_url, f"http://127.0.0.1:{port}"
    for path in ("/metrics", "/openapi.json"):
        assert (await get(public + path)).status_code == 404
        assert (await get(management + path)).status_code == 200
    document = (await get(management + "/openapi.json")).json()
    assert "/api/realtime" in document["paths"]
    assert "/api/auth/login" in document["paths"]
    for path in ("/healthz", "/readyz"):
        for base in (public, management):
            assert (await get(base + path)).status_code == 200
    assert (await get(f"{management}/api/realtime?tables=x")).status_code == 404
    await stack.create(
        "CREATE TABLE posts (id int); GRANT SELECT ON posts TO ayb_authenticated", "posts"
    )
    clients = [stack.stream("posts", token=stack.token()) for _ in range(20)]
    for client in clients:
        await client.open()
        await client.connected()
    stack.child("gateway").signal(signal.SIGTERM)
    await clients[0].ended(10)
    draining = await get(f"{management}/readyz")
    assert draining.status_code == 503
    assert draining.json()["parts"]["drain"] == "draining"
    assert "ayb_streams_open" in (await get(f"{management}/metrics")).text
    assert await stack.stop("gateway") == 0
    for client in clients:
        client.cut()


@pytest.mark.parametrize("setting", ["AYB_MANAGEMENT_PORT", "AYB_SERVER_PORT"])
async def test_a_port_that_is_in_use(stack: Stack, setting: str) -> None:
    """A port that another process has ends the start with one line that names the setting."""
    busy = stack.gateway_url.rpartition(":")[2]
    ports = {"AYB_MANAGEMENT_PORT": str(free_port()), "AYB_SERVER_PORT": str(free_port())}
    ports[setting] = busy
    stack.prepare_gateway("second", **ports)
    stack.launch("second")
    async with asyncio.timeout(30):
        while stack.child("second").is_running:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)
    assert await stack.stop("second") == 1
    *_, last = stack.log("second").splitlines()
    assert last.startswith(f"gateway: cannot listen on 127.0.0.1:{busy} ({setting}): ")
    assert "Traceback" not in stack.log("second")
