"""Whether the connection that reads still leads to its session at the server.

TCP notices a peer that is gone and a network that loses packets, but not a middle box that
acknowledges data and then drops it. A read would wait for its answer without end, and its session
would keep the lead, so that no standby could help. So the session of a read that takes long is
checked over another connection: while it works, it is left alone (a burst takes its time); if it is
idle, the query or its answer was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared.errors import DatabaseUnavailableError
from shared.postgres import connect, unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from asyncpg import Connection

    from shared.postgres import DatabaseAddress

log = structlog.get_logger(__name__)

PATIENCE_SECONDS: Final = 10.0
"""The session of a read that takes longer is checked."""

_ANSWER_SECONDS: Final = 1.0
"""How long an answer that was sent may take to arrive."""

_SQL: Final = queries("relay.session")


@dataclass(frozen=True, slots=True)
class Session:
    """A session of this relay: the server's process, and when it began."""

    pid: int
    began: datetime

    @classmethod
    async def of(cls, connection: Connection) -> Session:
        """Return the session of a connection."""
        row = await connection.fetchrow(_SQL["session"])
        return cls(row["pid"], row["began"])

    async def end(self, connection: Connection) -> None:
        """End it over another connection: the server may not know yet that the connection is lost.

        The session would keep the lead, and so stop this relay and all others.
        """
        if await connection.fetchval(_SQL["end_session"], self.pid, self.began):
            log.info("ended the lost session", pid=self.pid)


class Watchdog:
    """Watches one session's readings."""

    def __init__(self, address: DatabaseAddress | str, session: Session) -> None:
        self._address = address
        self._session = session
        self._asked = 0
        self._asking = False

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Have an answer awaited while the context is open."""
        self._asked += 1
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    async def watch(self) -> None:
        """Watch until cancelled; raises `DatabaseUnavailableError` if an answer will never come."""
        while True:
            question = self._asked
            await asyncio.sleep(PATIENCE_SECONDS)
            if not self._waits_for(question) or await self._is_at_work():
                continue
            await asyncio.sleep(_ANSWER_SECONDS)
            if self._waits_for(question):
                raise DatabaseUnavailableError("the connection swallows what it carries")

    def _waits_for(self, question: int) -> bool:
        return self._asking and self._asked == question

    async def _is_at_work(self) -> bool:
        try:
            return not await self._is_idle()
        except DatabaseUnavailableError as error:
            # That says nothing about the session: the server may be full, for one.
            log.warning("a read takes long, and its session cannot be checked", error=str(error))
            return True

    async def _is_idle(self) -> bool:
        other = await connect(
            self._address, application_name="ayb-relay watch", command_seconds=PATIENCE_SECONDS
        )
        try:
            with unavailable_as_ours():
                idle: bool = await other.fetchval(
                    _SQL["session_is_idle"], self._session.pid, self._session.began
                )
        finally:
            other.terminate()
        return idle
