"""A relay ends when it is asked to, whatever fails at that moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from relay.app import Relay
from relay.health import Health
from relay.metrics import RelayMetrics
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from shared.backoff import Backoff


class LosesItsDatabase(Relay):
    """A relay whose database goes away at the moment it is asked to end."""

    async def _connect_and_lead(self, backoff: Backoff) -> None:
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise DatabaseUnavailableError("gone at the same moment") from None

        async with asyncio.TaskGroup() as group:
            group.create_task(work())


async def test_ends_though_the_database_goes_away_at_that_moment(relays):
    """Errors while a relay is asked to end do not make it continue."""
    metrics = RelayMetrics()
    relay = LosesItsDatabase(relays.settings(), health=Health(metrics), metrics=metrics)
    task = asyncio.create_task(relay.run())
    await asyncio.sleep(0.2)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    task.cancel()
    assert done, "it goes on"
    with pytest.raises(asyncio.CancelledError):
        await task
