"""All checks, in order, and what becomes of one that cannot be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from relay.capture.patterns import parse_pattern
from relay.doctor.bus import check_redis
from relay.doctor.finding import Finding, Level, fail, ok
from relay.doctor.read_database import check_read_database
from relay.doctor.server import check_listen, check_outbox, check_server
from relay.doctor.tables import check_tables
from relay.schema.migrate import missing_scripts
from shared.errors import AybError, DatabaseUnavailableError, OperatorError, SettingsError
from shared.postgres import UNAVAILABLE, TransactionPoolingError, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from asyncpg import Connection

    from relay.capture.patterns import Pattern
    from relay.doctor.options import DoctorOptions
    from shared.postgres import DatabaseAddress

_NAME = "ayb-relay doctor"
_ROLES = "run `python -m relay roles | psql` as a superuser or the owner of the database"


async def examine(options: DoctorOptions, report: Callable[[Finding], None]) -> bool:
    """Make every check and report each finding; return whether none is a failure."""
    healthy = True
    async for finding in _findings(options):
        healthy = healthy and finding.level is not Level.FAIL
        report(finding)
    return healthy


async def _findings(options: DoctorOptions) -> AsyncIterator[Finding]:
    try:
        patterns = [parse_pattern(text) for text in options.table_patterns]
    except SettingsError as error:
        yield fail(str(error), "see AYB_REALTIME_TABLES in docs/settings.md")
        patterns = None
    position: object = None
    try:
        connection = await connect(options.database, application_name=_NAME)
        try:
            async for finding in _database(options, patterns, connection):
                yield finding
            position = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
        finally:
            connection.terminate()
    except (*UNAVAILABLE, AybError, asyncpg.PostgresError) as error:
        yield _stopped("database", "AYB_DATABASE_URL", options.database, error)
    if options.read_database is not None:
        try:
            connection = await connect(options.read_database, application_name=_NAME)
            try:
                async for finding in check_read_database(options, connection, position):
                    yield finding
            finally:
                connection.terminate()
        except (*UNAVAILABLE, AybError, asyncpg.PostgresError) as error:
            yield _stopped("read database", "AYB_READ_DATABASE_URL", options.read_database, error)
    for url in options.redis_urls:
        yield await check_redis(url)


async def _database(
    options: DoctorOptions, patterns: list[Pattern] | None, connection: Connection
) -> AsyncIterator[Finding]:
    async for finding in check_server(connection):
        yield finding
    yield await check_listen(options.database, connection)
    missing = await missing_scripts(connection)
    if missing:
        yield fail(
            f"schema ayb_realtime: {', '.join(s.name for s in missing)} missing or outdated",
            "start the relay, or run `python -m relay install` as the owner of the schema",
        )
        return
    yield ok("schema ayb_realtime is up to date")
    if patterns is not None:
        async for finding in check_tables(connection, patterns, options.auth_role):
            yield finding
    async for finding in check_outbox(connection):
        yield finding


def _stopped(what: str, setting: str, address: DatabaseAddress, error: BaseException) -> Finding:
    """Describe what kept a database from being checked to the end."""
    cause = error.__cause__ or error
    reason = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, (TransactionPoolingError, SettingsError)):
        remedy = f"change {setting}"
    elif isinstance(cause, asyncpg.InvalidAuthorizationSpecificationError):
        source = address.password_file or setting
        remedy = f"check the login in {setting}, that it may log in, and its password ({source})"
    elif isinstance(cause, asyncpg.InvalidCatalogNameError):
        remedy = f"check the name of the database in {setting}"
    elif isinstance(cause, asyncpg.TooManyConnectionsError):
        remedy = "raise max_connections or the login's limit, or end other connections"
    elif isinstance(cause, asyncpg.InsufficientPrivilegeError):
        remedy = f"this login lacks a right: {_ROLES}"
    elif isinstance(error, DatabaseUnavailableError):
        remedy = f"check {setting}, and that the server runs"
    elif isinstance(error, OperatorError):
        remedy = "see the message"
    else:
        remedy = "see the server's log for what it refused"
    return fail(f"{what}: {reason}", remedy)
