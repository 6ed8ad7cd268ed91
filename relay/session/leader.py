"""One active relay: whoever holds an advisory lock on the connection that reads.

The lock dies with the connection, and everything that only one may do (numbering batches) is done
on that connection. A standby asks now and then instead of waiting in the lock's queue: a waiting
statement would hold a snapshot, and with it back vacuum in the whole database.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from shared.sql import queries

if TYPE_CHECKING:
    from asyncpg import Connection

log = structlog.get_logger(__name__)

STANDBY_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 10.0

_SQL: Final = queries("relay.session")


async def lead(connection: Connection) -> None:
    """Wait until this connection is the leader's; raises `TimeoutError` where it is mute."""
    told = False
    while not await connection.fetchval(_SQL["take_leader_lock"], timeout=_ANSWER_SECONDS):
        if not told:
            told = True
            log.info("another relay is active: standing by")
        await asyncio.sleep(STANDBY_SECONDS)
    log.info("leading")
