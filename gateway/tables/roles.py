"""Whether clients may act as a role: it exists, is granted to the gateway, and bypasses nothing.

All roles come from the gateway's settings, so one that cannot be used is the deployment's fault and
never the client's: requests are refused for a passing reason, and `/readyz` says what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from shared.pool import own_session
from shared.postgres import unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    import asyncpg

    from gateway.tables.recent_answers import RecentAnswers

log = structlog.get_logger(__name__)

_SQL: Final = queries("gateway.tables")


class Roles:
    """Asks the system catalogs about roles."""

    def __init__(self, pool: asyncpg.Pool, answers: RecentAnswers) -> None:
        self._pool = pool
        self._answers = answers
        self._faults: dict[str, str | None] = {}  # by roles of the settings

    async def fault_of(self, role: str) -> str | None:
        """Return why clients cannot act as a role, and what to do; None if they can.

        Raises `DatabaseUnavailableError`.
        """
        return await self._answers.get(("role", role), lambda: self._fault_of(role))

    async def _fault_of(self, role: str) -> str | None:
        with unavailable_as_ours():
            async with own_session(self._pool) as connection:
                row = await connection.fetchrow(_SQL["role"], role)
        fault = None
        if row["is_missing"]:
            fault = (
                f'role "{role}" does not exist:'
                f' CREATE ROLE "{role}" NOLOGIN; GRANT "{role}" TO "{row["login"]}"'
            )
        elif row["is_privileged"]:
            fault = (
                f'role "{role}" is not bound by row security, so no client may act as it:'
                f' ALTER ROLE "{role}" NOSUPERUSER NOBYPASSRLS'
            )
        elif not row["may_be_taken"]:
            fault = f'role "{role}" is not granted: GRANT "{role}" TO "{row["login"]}"'
        if fault is not None and self._faults.get(role) != fault:
            log.error("clients cannot act as a role of the settings", reason=fault)
        self._faults[role] = fault
        return fault
