"""Who is told what of a run of changes that cannot be told."""

from __future__ import annotations

import asyncio

from gateway.fanout.delivery import Delivery, Dispatch
from gateway.metrics import GatewayMetrics
from tests.unit.gateway.streams.test_connection import Harness


async def test_a_run_is_told_at_its_beginning() -> None:
    """One frame stands for the changes 3 to 7 of a table: whoever has not been told all of them
    gets it before anything else of between, and no position moves past what was not told.
    """
    async with asyncio.TaskGroup() as group:
        clients = {order: Harness(group) for order in (2, 4, 6, 7)}
        for order, client in clients.items():
            client.connection.order = order
        groups = [[client.connection for client in clients.values()]]
        delivery = Delivery(
            visibility=None,
            backlog=None,  # type: ignore[arg-type]
            deletes="all",
            metrics=GatewayMetrics(),
        )
        run, five = Dispatch(3, b"run ", groups, until=7), Dispatch(5, b"five ", groups)
        assert await delivery.write([run, five]) == 5
    assert {order: client.socket.sent for order, client in clients.items()} == {
        2: [b"run five "],
        4: [b"run five "],
        6: [b"run "],
        7: [],
    }
    assert [client.connection.order for client in clients.values()] == [5, 5, 6, 7]
