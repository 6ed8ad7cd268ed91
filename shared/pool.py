"""A pool of pinned sessions that keeps working with what it has while new logins are refused.

asyncpg's pool prefers open sessions to new ones. Three things are added. A session that is returned
is reset and pinned again, unless nothing ran in it that could leave anything behind (see
`own_session`). Where a new session is refused (a changed password, say) and others are
open but busy, the caller waits for one of those. And failed connects are spaced out: between two
attempts every caller gets the error of the last one at once, so that a thousand questions do not
make a thousand failed logins.

Where the URL names several hosts, all sessions are on one of them: on the first that lets us in.
While that is not the first of the list, better ones are tried every few seconds, further apart if
they do not last. The pool goes back to one that has replayed what the present host has. It ends
idle sessions elsewhere at once, and the others when they are returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from shared.backoff import Backoff
from shared.errors import AybError, DatabaseUnavailableError
from shared.postgres import (
    CONNECT_IN_TURN_SECONDS,
    CONNECT_SECONDS,
    UNAVAILABLE,
    DatabaseAddress,
    connect,
    pin_statement,
)
from shared.sql import queries
from shared.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
log = structlog.get_logger(__name__)

_SQL: Final = queries("shared", "pool.sql")

_RETRY_SECONDS: Final = 2.0
_DOUBT_SECONDS: Final = 3.0
_RETURN_SECONDS: Final = 4.0
_MOST_RETURN_SECONDS: Final = 15.0
_LASTING_SECONDS: Final = 60.0
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

    resets: dict[int, str] = {}

    async def reset(connection: asyncpg.Connection) -> None:
        if pool.is_clean(connection):
            return
        version = connection.get_server_version().major
        statement = resets.get(version)
        if statement is None:
            statement = f"{connection.get_reset_query()}\n{pin_statement(connection, pins)}"
            resets[version] = statement
        await connection.execute(statement)

    pool = _Pool(opener, reset=reset, size=most)
    await pool
    following = asyncio.create_task(_follow(opener, pool), name="hosts of the database")
    try:
        yield pool
    finally:
        await end([following])
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()


@contextlib.asynccontextmanager
async def own_session(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """Acquire a session for a statement of ours that runs no code of the database's users.

    That is one statement, outside of a transaction block, on our own tables and the catalogs, which
    calls no function, operator, type or policy but Postgres' and ours: it leaves nothing in the
    session, which is given back without being reset. A reset is a round trip of its own, and takes
    as long as such a statement. After an error the session is reset nevertheless.
    """
    async with pool.acquire() as connection:
        yield connection
        if isinstance(pool, _Pool):
            pool.leave_as_it_is(connection)


async def _follow(opener: _Opener, pool: _Pool) -> None:
    """Replace the sessions after each move, and go back to better hosts, until cancelled."""
    backoff = Backoff(first_seconds=_RETURN_SECONDS, most_seconds=_MOST_RETURN_SECONDS)
    moved_at = float("-inf")
    while True:
        try:
            async with asyncio.timeout(backoff.next_seconds() if opener.place else None):
                await opener.moved.wait()
        except TimeoutError:
            await opener.find_better(lambda: _wal_position(pool))
            continue
        opener.moved.clear()
        await pool.expire_connections()
        pool.end_idle_elsewhere()
        if time.monotonic() - moved_at > _LASTING_SECONDS:
            backoff.reset()
        moved_at = time.monotonic()


async def _wal_position(session: asyncpg.Pool | asyncpg.Connection) -> int | None:
    """Read how far a server's data is; None if it does not say."""
    try:
        async with asyncio.timeout(_RETRY_SECONDS):
            position: int | None = await session.fetchval(_SQL["wal_position"])
            return position
    except (*UNAVAILABLE, asyncpg.PostgresError):
        return None


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
        self._hosts = address.hosts
        self._place = 0
        self._away_because = ""
        self.moved = asyncio.Event()
        """Set when new sessions are opened on another host than before."""
        self._application_name = application_name
        self._settings = settings
        self._command_seconds = command_seconds
        self._on_refused = on_refused
        self._backoff = Backoff(most_seconds=_RETRY_SECONDS)
        self._retry_at = float("-inf")
        self._sessions: weakref.WeakKeyDictionary[asyncpg.Connection, int] = (
            weakref.WeakKeyDictionary()
        )
        """The sessions, with the places of their hosts."""
        self.error = ""
        """Why the last attempt failed; empty after a success."""

    async def open(self, *_: object, **__: object) -> asyncpg.Connection:
        if time.monotonic() < self._retry_at:
            raise DatabaseUnavailableError(self.error)
        try:
            connection = await self._open_any()
        except DatabaseUnavailableError as error:
            self._refused(str(error))
            raise
        if self.error:
            log.info("database connected")
        self.error = ""
        self._backoff.reset()
        self._sessions[connection] = self._place
        return connection

    async def doubt(self) -> None:
        """Leave the present host and end its sessions if it lets nobody in any more.

        Without this each session would wait for its own time limit.
        """
        if len(self._hosts) == 1:
            return
        host = self._hosts[self._place]
        try:
            (await self._connect(host, _DOUBT_SECONDS)).terminate()
        except DatabaseUnavailableError as error:
            sessions = list(self._sessions)
            with contextlib.suppress(DatabaseUnavailableError):
                (await self._open_any(but=self._place, reason=_told(host, error))).terminate()
                for session in sessions:
                    session.terminate()

    @property
    def place(self) -> int:
        """The place in the list of the host that the sessions are on; 0 is the first."""
        return self._place

    def is_here(self, connection: asyncpg.Connection) -> bool:
        """Whether a session is on the present host."""
        return self._sessions.get(connection) == self._place

    @property
    def elsewhere(self) -> str | None:
        """Which host is used in place of the first, and why; None on the first."""
        if self._place == 0:
            return None
        return f"uses {self._hosts[self._place].name}: {self._away_because}"

    async def find_better(self, position: Callable[[], Awaitable[int | None]]) -> None:
        """Move to a host that comes earlier in the list, if one lets us in.

        It has to have the data up to `position`, that of the present host, unless that is None.
        """
        for place, host in enumerate(self._hosts[: self._place]):
            try:
                session = await self._connect(host)
            except (AybError, asyncpg.PostgresError) as error:
                self._away_because = _told(host, error)
                continue
            try:
                needed = await position()
                has = await _wal_position(session)
            finally:
                session.terminate()
            if needed is not None and has is not None and has < needed:
                self._away_because = f"{host.name}: has not replayed what the present host has"
                continue
            self._move(place)
            return

    async def _open_any(
        self, *, but: int | None = None, reason: str | None = None
    ) -> asyncpg.Connection:
        """Open a session on the present host, else on the first of the others.

        Pass over the host at the place `but`, for a reason.
        """
        errors = [] if reason is None else [reason]
        places = [place for place in range(len(self._hosts)) if place != but]
        for place in sorted(places, key=lambda place: (place != self._place, place)):
            try:
                connection = await self._connect(self._hosts[place])
            except DatabaseUnavailableError as error:
                if len(self._hosts) == 1:
                    raise
                errors.append(_told(self._hosts[place], error))
                continue
            if place != self._place:
                self._away_because = "; ".join(errors)
                self._move(place)
            return connection
        raise DatabaseUnavailableError(f"database unavailable: {'; '.join(errors)}")

    async def _connect(
        self, host: DatabaseAddress, seconds: float | None = None
    ) -> asyncpg.Connection:
        return await connect(
            host,
            application_name=self._application_name,
            settings=self._settings,
            command_seconds=self._command_seconds,
            connect_seconds=seconds
            or (CONNECT_SECONDS if len(self._hosts) == 1 else CONNECT_IN_TURN_SECONDS),
        )

    def _move(self, place: int) -> None:
        host = self._hosts[place].name
        if place == 0:
            log.info("back on the first host of the database URL", host=host)
        else:
            log.warning("another host of the database URL", host=host, reason=self._away_because)
        self._place = place
        self.moved.set()

    def _refused(self, error: str) -> None:
        self._on_refused()
        self._retry_at = time.monotonic() + self._backoff.next_seconds()
        if error != self.error:
            log.warning("no new connection to the database", error=error)
        self.error = error


def _told(host: DatabaseAddress, error: Exception) -> str:
    return f"{host.name}: {str(error).removeprefix('database unavailable: ')}"


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
        self._clean: weakref.WeakSet[asyncpg.Connection] = weakref.WeakSet()

    def leave_as_it_is(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        """Note that nothing is left in a session: it need not be reset when it is released."""
        self._clean.add(connection._con)  # noqa: SLF001 (the pool's own wrapper of it)

    def is_clean(self, connection: asyncpg.Connection) -> bool:
        """Whether nothing is left in a session that is being released; answers so only once."""
        if connection in self._clean:
            self._clean.discard(connection)
            return True
        return False

    @property
    def refusal(self) -> str | None:
        """Why no new session can be opened at present, None where nothing is known against it."""
        return self._opener.error or None

    @property
    def place(self) -> int:
        """The place of the host in use among those of the URL; 0 is the first."""
        return self._opener.place

    @property
    def elsewhere(self) -> str | None:
        """Which host is used in place of the first, and why; None on the first."""
        return self._opener.elsewhere

    def end_idle_elsewhere(self) -> None:
        """End the idle sessions that are not on the present host.

        asyncpg ends one that has expired when it is used next. One that is not needed again, since
        the others suffice, would stay where it is.
        """
        for holder in self._holders:
            connection = holder._con  # noqa: SLF001 (an idle holder has no public way to it)
            if connection is not None and holder.is_idle() and not self._opener.is_here(connection):
                holder.terminate()

    async def doubt(self) -> None:
        """Look whether the present host of several still lets us in, and leave it if not."""
        await self._opener.doubt()

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
