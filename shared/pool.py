"""A pool of pinned sessions that keeps working with what it has while new logins are refused.

asyncpg's pool prefers open sessions to new ones. Three things are added. A session that is returned
is reset and pinned again. Where a new session is refused (a changed password, say) and others are
open but busy, the caller waits for one of those. And failed connects are spaced out: between two
attempts every caller gets the error of the last one at once, so that a thousand questions do not
make a thousand failed logins.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from shared.backoff import Backoff
from shared.errors import DatabaseUnavailableError
from shared.postgres import DatabaseAddress, connect, pin_statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 2.0
_CLOSE_SECONDS: Final = 2.0


@contextlib.asynccontextmanager
async def open_pool(
    address: DatabaseAddress | str,
    *,
    application_name: str,
    most: int,
    settings: Mapping[str, str] | None = None,
    command_seconds: float | None = None,
    on_refused: Callable[[], object] = lambda: None,
) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool that fills when first used, so that a database that is down stops no start.

    `on_refused` is called for each attempt to open a session that fails. Acquiring one raises what
    `connect` raises.
    """
    pins = dict(settings or {})
    opener = _Opener(
        DatabaseAddress(address) if isinstance(address, str) else address,
        application_name=application_name,
        settings=pins,
        command_seconds=command_seconds,
        on_refused=on_refused,
    )

    async def reset(connection: asyncpg.Connection) -> None:
        await connection.execute(
            f"{connection.get_reset_query()}\n{pin_statement(connection, pins)}"
        )

    pool = _Pool(opener, reset=reset, size=most)
    await pool
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()


class _Opener:
    """Opens sessions, with a pause after each failure that concerns all callers."""

    def __init__(
        self,
        address: DatabaseAddress,
        *,
        application_name: str,
        settings: Mapping[str, str],
        command_seconds: float | None,
        on_refused: Callable[[], object],
    ) -> None:
        self._address = address
        self._application_name = application_name
        self._settings = settings
        self._command_seconds = command_seconds
        self._on_refused = on_refused
        self._backoff = Backoff(most_seconds=_RETRY_SECONDS)
        self._retry_at = float("-inf")
        self.error = ""
        """Why the last attempt failed; empty after a success."""

    async def open(self, *_: object, **__: object) -> asyncpg.Connection:
        if time.monotonic() < self._retry_at:
            raise DatabaseUnavailableError(self.error)
        try:
            connection = await connect(
                self._address,
                application_name=self._application_name,
                settings=self._settings,
                command_seconds=self._command_seconds,
            )
        except DatabaseUnavailableError as error:
            self._refused(str(error))
            raise
        if self.error:
            log.info("database connected")
        self.error = ""
        self._backoff.reset()
        return connection

    def _refused(self, error: str) -> None:
        self._on_refused()
        self._retry_at = time.monotonic() + self._backoff.next_seconds()
        if error != self.error:
            log.warning("no new connection to the database", error=error)
        self.error = error


class _Pool(asyncpg.Pool):  # type: ignore[misc]  # it has no types
    """asyncpg's pool, whose callers wait for an open session where no new one can be opened."""

    def __init__(self, opener: _Opener, *, reset: Any, size: int) -> None:  # noqa: ANN401
        super().__init__(
            min_size=0,
            max_size=size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            connect=opener.open,
            reset=reset,
            loop=None,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
        )
        self._opener = opener
        self._released = asyncio.Event()

    @property
    def refusal(self) -> str | None:
        """Why no new session can be opened at present, None where nothing is known against it."""
        return self._opener.error or None

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:  # noqa: ANN401, ASYNC109
        """Return a session to the pool."""
        try:
            await super().release(connection, timeout=timeout)
        finally:
            self._released.set()

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ANN401, ASYNC109
        async with asyncio.timeout(timeout):
            while True:
                self._released.clear()
                try:
                    return await super()._acquire(None)
                except DatabaseUnavailableError:
                    if self.get_size() == 0:
                        raise
                if self.get_idle_size() == 0:
                    await self._released.wait()
