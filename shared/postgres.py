"""Connections to Postgres: where it is, what each session pins, and errors that mean it is away.

A session pins whatever its role, its database or a pooler may have set for others and what would
break it: timeouts, transaction modes, Row-Level Security. The settings are applied by statements
after the connect instead of by start-up parameters, which poolers refuse or silently drop.

A server that answers but refuses the login (a changed password, NOLOGIN, a renamed database, too
many connections) counts as unavailable like one that is down: an operator corrects it while we run,
and the next attempt succeeds. A password kept in a file is read again at each connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import asyncpg

from shared.errors import DatabaseUnavailableError, OperatorError, SettingsError
from shared.postgres_url import each_host, host_of, is_unencoded
from shared.tls_advice import POSTGRES, certificate_advice, unreadable_files
from shared.url import split_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CONNECT_SECONDS: Final = 10.0
CONNECT_IN_TURN_SECONDS: Final = 5.0
"""How long one of several hosts may take to let us in."""

_POOLER_TEST_SECONDS: Final = 5.0
_POOLER_TEST_ROUNDS: Final = 5

UNAVAILABLE: Final = (
    DatabaseUnavailableError,
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
refuses the login, or has become a standby, or somebody's locks were in the way. An internal error
of asyncpg is what it makes of a server's last word."""

PINNED: Final = {
    # A batch is sorted in memory: where temp_file_limit is low, a temporary file would fail.
    "work_mem": "16MB",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "role": "none",
}
"""What every session of ours sets, unless its user sets it otherwise."""

_SINCE: Final = {"transaction_timeout": 17}
"""Settings that older servers do not know, with the major version that brought each."""


class TransactionPoolingError(OperatorError):
    """The database URL leads through a proxy that pools transactions."""

    def __init__(self) -> None:
        super().__init__(
            "the database URL leads through a proxy that pools transactions (such as PgBouncer in "
            "transaction mode): use its session mode, or the address of Postgres itself"
        )


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where a database is, and where the login's password is kept if it is not in the URL."""

    url: str
    password_file: Path | None = None

    @property
    def hosts(self) -> tuple[DatabaseAddress, ...]:
        """The same database at each of the hosts that the URL names, in order."""
        return tuple(replace(self, url=url) for url in each_host(self.url))

    @property
    def name(self) -> str:
        """The host and port, for logs."""
        return host_of(self.url)

    def read_password(self) -> str | None:
        """Read the password as it is now; None where the URL has it. Raises `OSError`."""
        if self.password_file is None:
            return None
        return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")


@contextlib.contextmanager
def unavailable_as_ours() -> Iterator[None]:
    """Turn the errors of `UNAVAILABLE` into `DatabaseUnavailableError`, keeping the cause."""
    try:
        yield
    except DatabaseUnavailableError:
        raise
    except UNAVAILABLE as error:
        raise DatabaseUnavailableError(f"database unavailable: {_said(error)}") from error


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

    The kernel ends a connection whose peer acknowledges nothing for that long, or answers but has
    no room for what is to be sent.
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
    address: DatabaseAddress | str,
    *,
    application_name: str,
    settings: Mapping[str, str] | None = None,
    command_seconds: float | None = None,
    connect_seconds: float | None = None,
) -> asyncpg.Connection:
    """Open one connection with its settings pinned; `address` may be a URL with the password in it.

    If the URL names several hosts, they are tried in order. Unlike libpq, that goes on after a host
    that refuses the login: a replica that was just promoted may lack a line in its pg_hba.conf.

    `connect_seconds` is the most that one host may take to let us in, `command_seconds` the most
    that one statement may take, before the server counts as gone.
    Raises `DatabaseUnavailableError` where there is no server or it refuses the login,
    `SettingsError` where the URL cannot be read, `TransactionPoolingError`.
    """
    if isinstance(address, str):
        address = DatabaseAddress(address)
    connection, address = await _open_first(
        address, application_name, command_seconds, connect_seconds
    )
    try:
        with unavailable_as_ours():
            if await _is_pooled_by_transaction(connection, address, application_name):
                raise TransactionPoolingError  # noqa: TRY301 (the connection is ended below)
            await connection.execute(pin_statement(connection, settings or {}))
    except BaseException:
        connection.terminate()
        raise
    return connection


def pin_statement(connection: asyncpg.Connection, settings: Mapping[str, str]) -> str:
    """Write the statement that pins a session's settings; `settings` go before `PINNED`."""
    version = connection.get_server_version().major
    return "SELECT " + ", ".join(
        f"pg_catalog.set_config({_quote(name)}, {_quote(value)}, false)"
        for name, value in {**PINNED, **settings}.items()
        if version >= _SINCE.get(name, 0)
    )


async def _open_first(
    address: DatabaseAddress,
    application_name: str,
    command_seconds: float | None,
    connect_seconds: float | None,
) -> tuple[asyncpg.Connection, DatabaseAddress]:
    """Open a connection to the first host that accepts it; return that host too."""
    hosts = address.hosts
    if connect_seconds is None:
        connect_seconds = CONNECT_SECONDS if len(hosts) == 1 else CONNECT_IN_TURN_SECONDS
    if len(hosts) == 1:
        connection = await _open(
            address, application_name, command_seconds, connect_seconds=connect_seconds
        )
        return connection, address
    errors = []
    for host in hosts:
        try:
            connection = await _open(
                host, application_name, command_seconds, connect_seconds=connect_seconds
            )
        except DatabaseUnavailableError as error:
            errors.append(f"{host.name}: {str(error).removeprefix('database unavailable: ')}")
        else:
            return connection, host
    raise DatabaseUnavailableError(f"database unavailable: {'; '.join(errors)}")


async def _open(
    address: DatabaseAddress,
    application_name: str,
    command_seconds: float | None,
    *,
    connect_seconds: float = CONNECT_SECONDS,
) -> asyncpg.Connection:
    try:
        connection = await asyncpg.connect(
            address.url,
            password=address.read_password if address.password_file is not None else None,
            timeout=connect_seconds,
            command_timeout=command_seconds,
            server_settings={"application_name": application_name},
        )
    except ssl.SSLCertVerificationError as error:  # to Python, a ValueError as well
        advice = certificate_advice(error, POSTGRES)
        raise DatabaseUnavailableError(f"database unavailable: {error}: {advice}") from error
    except (asyncpg.exceptions.ClientConfigurationError, ValueError) as error:
        raise SettingsError(
            f"the database URL cannot be used{_fault_of(error, address.url)}"
        ) from None
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        # Whatever the server says before there is a session, it may say otherwise tomorrow.
        said = _why_not_open(error, address.url, connect_seconds)
        raise DatabaseUnavailableError(f"database unavailable: {said}") from error
    keep_alive(connection)
    return connection


async def _is_pooled_by_transaction(
    connection: asyncpg.Connection, address: DatabaseAddress, application_name: str
) -> bool:
    """Whether two transactions of one connection can meet different server processes.

    A pooler gives each client a process number of its own making, so where the number is that of
    the server process there is no pooler. Behind one, a second connection opens a transaction: if
    it gets the process that served the first, or the first is moved to another, processes are
    shared. If the second gets no process at all, the first keeps its own, as in session mode.
    """
    try:
        pid = await _server_process(connection)
        if pid == connection.get_server_pid():
            return False
        async with asyncio.timeout(_POOLER_TEST_SECONDS):
            other = await _open(address, f"{application_name} pooler test", None)
            try:
                return await _share_processes(connection, other)
            finally:
                other.terminate()
    except _NOT_OUR_SESSION:
        return True
    except (DatabaseUnavailableError, TimeoutError):
        return False


_NOT_OUR_SESSION: Final = (
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.ProtocolViolationError,
)
"""What a statement meets in a process that served another client before."""


async def _share_processes(first: asyncpg.Connection, second: asyncpg.Connection) -> bool:
    pid = await _server_process(first)
    for _ in range(_POOLER_TEST_ROUNDS):
        await second.execute("BEGIN")
        if await _server_process(second) == pid or await _server_process(first) != pid:
            return True
        await second.execute("ROLLBACK")
    return False


async def _server_process(connection: asyncpg.Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_catalog.pg_backend_pid()")
    return pid


_FORM: Final = (
    ": see postgresql://user@host:port/database, with special characters of the password "
    "percent-encoded"
)
_TARGETS: Final = (
    ": target_session_attrs must be any, primary, standby, read-write, read-only or prefer-standby"
)


def _fault_of(error: Exception, url: str) -> str:
    """Say what is wrong with a URL, and what to do."""
    said = " ".join(str(error).split())
    if said.startswith("target_session_attrs"):
        return _TARGETS  # asyncpg prints the allowed values as an object of Python
    if isinstance(error, asyncpg.exceptions.ClientConfigurationError) and "DSN" not in said:
        return f": {said}"
    # What the parser of URLs says may repeat a part of the password.
    return _FORM if "invalid literal" in said or is_unencoded(url) else f": {said}{_FORM}"


def _why_not_open(error: BaseException, url: str, connect_seconds: float) -> str:
    """Say in one line why no session could be opened, and what to do where the URL may be wrong."""
    if isinstance(error, socket.gaierror):
        if is_unencoded(url):
            return "no such host; special characters of a password must be percent-encoded"
        return f"no such host: {host_of(url)} ({error.strerror})"
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {connect_seconds:g} s"
    if isinstance(error, (FileNotFoundError, PermissionError, ssl.SSLError)):
        files = unreadable_files(parse_qsl(split_url(url).query), POSTGRES)
        if files is not None:
            return files
        if isinstance(error, ssl.SSLError):
            return f"{_said(error)}: look at sslrootcert, sslcert and sslkey in the URL"
    return _said(error)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _said(error: BaseException) -> str:
    """What an error says, in one line; some, such as timeouts, say nothing."""
    return (str(error) or type(error).__name__).partition("\n")[0]
