"""AYB's own table of users, read with the gateway's login."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from gateway.auth.ayb_tables import missing_tables
from gateway.errors import ServiceUnavailableError
from shared.postgres import unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    import asyncpg

log = structlog.get_logger(__name__)

AT_A_TIME: Final = 2
"""How many connections of the pool this may use at a time: streams need the others."""

WAIT_SECONDS: Final = 5.0

_SQL = queries("gateway.auth")

_REMEDY: Final = (
    "AYB_AUTH_LOGIN_ENABLED needs SELECT on AYB's table _ayb_users, and on _ayb_user_mfa where"
    " there is one, granted to the gateway's login"
)


@dataclass(frozen=True, slots=True)
class User:
    """A row of AYB's table of users."""

    id: str
    email: str
    """The empty string for a user without one."""

    password_hash: str | None = field(repr=False)
    created_at: datetime
    updated_at: datetime


class Users:
    """Finds users.

    Its methods raise `DatabaseUnavailableError`, or `ServiceUnavailableError` if the tables or
    grants are missing, which the log says.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._places = asyncio.Semaphore(AT_A_TIME)

    async def by_email(self, email: str) -> User | None:
        """Find a user by an e-mail address in lower case."""
        async with self._asking():
            return _user(await self._pool.fetchrow(_SQL["user_by_email"], email))

    async def by_id(self, user_id: str) -> User | None:
        """Find a user by id; return None if `user_id` is not a UUID."""
        try:
            key = uuid.UUID(user_id)
        except ValueError:
            return None
        async with self._asking():
            return _user(await self._pool.fetchrow(_SQL["user_by_id"], key))

    async def has_second_factor(self, user_id: str) -> bool:
        """Return whether AYB asks this user for more than a password."""
        async with self._asking():
            return bool(
                await self._pool.fetchval(_SQL["knows_second_factors"])
                and await self._pool.fetchval(_SQL["has_second_factor"], uuid.UUID(user_id))
            )

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        with missing_tables(ServiceUnavailableError, _REMEDY), unavailable_as_ours():
            async with asyncio.timeout(WAIT_SECONDS), self._places:
                yield


def _user(row: asyncpg.Record | None) -> User | None:
    return None if row is None else User(**row)
