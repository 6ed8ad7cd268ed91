"""Connections to Postgres, and which of its errors mean that it is not there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

import asyncpg

from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CONNECT_SECONDS: Final = 10.0

UNAVAILABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresIOError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
)
"""Errors after which the same question may be asked again: the server is away, starting, full,
or has become a standby, or somebody's locks were in the way. An internal error of asyncpg is what
it makes of a server's last word."""


@contextlib.contextmanager
def unavailable_as_ours() -> Iterator[None]:
    """Turn the errors of `UNAVAILABLE` into `DatabaseUnavailableError`, keeping the cause."""
    try:
        yield
    except UNAVAILABLE as error:
        raise DatabaseUnavailableError(f"database unavailable: {error}") from error


def keep_alive(connection: asyncpg.Connection) -> None:
    """Let the kernel notice within about 15 s that the peer has vanished without a word.

    Covers packets that are discarded silently, for an idle connection (keepalive) as well as for
    one with unacknowledged data (TCP_USER_TIMEOUT, RFC 5482).
    """
    # asyncpg offers no public way to its transport.
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
        keep_socket_alive(sock)


def keep_socket_alive(sock: socket.socket, *, unacknowledged_seconds: float = 15.0) -> None:
    """Set keepalive and the user timeout on a TCP socket, where the platform has them.

    The kernel ends a connection whose peer acknowledges nothing for so long, or answers but has no
    room for what is to be sent.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 3),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", round(unacknowledged_seconds * 1000)),
    ):
        number = getattr(socket, option, None)
        if number is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)


async def connect(
    dsn: str,
    *,
    application_name: str,
    settings: dict[str, str] | None = None,
    command_seconds: float | None = None,
) -> asyncpg.Connection:
    """Open one connection; raise `DatabaseUnavailableError` where there is no server.

    `command_seconds` is the most that one statement may take before the server counts as gone.
    """
    with unavailable_as_ours():
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS,
            command_timeout=command_seconds,
            server_settings={"application_name": application_name, **(settings or {})},
        )
    keep_alive(connection)
    return connection


@contextlib.asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    application_name: str,
    most: int,
    settings: dict[str, str] | None = None,
    command_seconds: float | None = None,
) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool that fills when first used, so that a database that is down stops no start."""

    async def init(connection: asyncpg.Connection) -> None:
        keep_alive(connection)

    pool = asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=most,
        timeout=CONNECT_SECONDS,
        command_timeout=command_seconds,
        init=init,
        server_settings={"application_name": application_name, **(settings or {})},
    )
    await pool
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(2):
                await pool.close()
        except TimeoutError:
            pool.terminate()
