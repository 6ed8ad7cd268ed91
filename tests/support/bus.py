"""The bus of a stack, as seen by a program that can write to its Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.channels import Channels
from shared.outbox import log_state

if TYPE_CHECKING:
    from tests.support.databases import Database


async def history_of(database: Database) -> str:
    """Return the identity of a database's log; its relay has run."""
    async with database.connect() as connection:
        history = (await log_state(connection)).history
    assert history is not None
    return history


async def channels_of(database: Database) -> Channels:
    """Return the channels that the relay of a database publishes on."""
    return Channels.of(await history_of(database))
