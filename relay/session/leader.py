"""One active relay: the session that the row of `ayb_realtime.leader` names.

A session is known by its process id and the time it began, which nobody can forge, and the row
can be written by the relay's login alone: unlike an advisory lock, which any login can take. The
lead ends with the session. Everything that only one relay may do (numbering batches) is done in
that session, so two never do it at once.

A relay can vanish without its session ending: its host loses power, or a proxy keeps the
connection open. So the leader renews the row every second. A standby ends the session of a
leader that has been silent for `SILENT_SECONDS` while Postgres waited for it as long; a session
that is at work (a burst takes its time) is left alone.

A standby asks now and then instead of waiting for a lock: a waiting statement would hold a
snapshot, and so keep vacuum from cleaning the whole database.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from shared.errors import DatabaseUnavailableError
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg import Connection

log = structlog.get_logger(__name__)

STANDBY_SECONDS: Final = 0.5
SILENT_SECONDS: Final = 10.0
HEARTBEAT_SECONDS: Final = 1.0
"""How often the leader renews its row. Every replica receives the row, so its age there is what a
gateway measures the replica's staleness by while nothing else is written."""

_ANSWER_SECONDS: Final = 10.0

_SQL: Final = queries("relay.session")


class Leadership:
    """The lead, held by the session of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held_at = float("-inf")

    async def wait(self, note: Callable[[str | None], None]) -> None:
        """Wait until this session leads; `note` gets the relay that leads meanwhile.

        Raises `TimeoutError` if the connection does not answer.
        """
        name = f"{socket.gethostname()}, process {os.getpid()}"
        is_standby = False
        while not await self._take(name):
            if not is_standby:
                is_standby = True
                log.info("another relay is active: standing by")
            note(await self._leader())
            await self._end_silent_leader()
            await asyncio.sleep(STANDBY_SECONDS)
        note(None)
        self._held_at = time.monotonic()
        log.info("leading")

    async def hold(self) -> None:
        """Renew the lead if that is due; raises `DatabaseUnavailableError` if it is lost."""
        now = time.monotonic()
        if now - self._held_at < HEARTBEAT_SECONDS:
            return
        self._held_at = now
        if not await self._connection.fetchval(_SQL["hold_lead"]):
            raise DatabaseUnavailableError("the lead has been lost")

    async def _take(self, name: str) -> bool:
        async with asyncio.timeout(_ANSWER_SECONDS), self._connection.transaction():
            await self._connection.execute(_SQL["lock_leader"])
            return bool(await self._connection.fetchval(_SQL["take_lead"], name))

    async def _leader(self) -> str | None:
        row = await self._connection.fetchrow(_SQL["leader"], timeout=_ANSWER_SECONDS)
        if row is None:
            return None
        return (
            f"standing by: {row['name']} (pid {row['pid']} at the server) leads since "
            f"{row['since']:%Y-%m-%dT%H:%M:%SZ}, last heard of {row['silent_seconds']:.0f} s ago"
        )

    async def _end_silent_leader(self) -> None:
        try:
            is_ended = await self._connection.fetchval(
                _SQL["end_silent_leader"], SILENT_SECONDS, timeout=_ANSWER_SECONDS
            )
        except asyncpg.InsufficientPrivilegeError as error:
            log.warning("the leader is silent, and its session cannot be ended", error=str(error))
        else:
            if is_ended:
                log.warning("the leader was silent: its session has been ended")
