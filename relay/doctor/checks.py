"""`python -m relay doctor`: what a deployment needs, checked one by one.

Each check says what it found, and where something is wrong, what to do about it. Nothing is
changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Final

import asyncpg

from relay.doctor.access import connected, read_database, skew, tables
from relay.doctor.finding import Finding, Level, fail, ok, warn
from relay.metrics import RelayMetrics
from relay.schema.migrate import missing_scripts
from relay.session.wakeup import Listener, ListenError
from shared.channels import ROOT
from shared.errors import AybError
from shared.logging import redact
from shared.postgres import UNAVAILABLE as POSTGRES_UNAVAILABLE
from shared.redis import UNAVAILABLE as REDIS_UNAVAILABLE
from shared.redis import redis_client
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from asyncpg import Connection

    from relay.settings import RelaySettings

_SQL: Final = queries("relay.doctor")

OLDEST_VERSION: Final = 14
_LONG_SECONDS: Final = 300.0
_ANSWER_SECONDS: Final = 5.0


async def examine(settings: RelaySettings, tell: Callable[[Finding], None]) -> bool:
    """Check everything and tell each finding; whether none of them is a failure."""
    healthy = True
    async for finding in _findings(settings):
        healthy = healthy and finding.level is not Level.FAIL
        tell(finding)
    return healthy


async def _findings(settings: RelaySettings) -> AsyncIterator[Finding]:
    try:
        async with connected(settings.database) as connection:
            async for finding in _database(settings, connection):
                yield finding
            if settings.read_database is not None:
                async for finding in read_database(settings, settings.read_database, connection):
                    yield finding
    except (*POSTGRES_UNAVAILABLE, AybError, asyncpg.PostgresError) as error:
        yield fail(f"database: {error}", "check AYB_DATABASE_URL, and that the server runs")
    for url in settings.redis_url:
        yield await _redis(url.get_secret_value())


async def _database(settings: RelaySettings, connection: Connection) -> AsyncIterator[Finding]:
    async for finding in _server(connection):
        yield finding
    yield await _listen(settings, connection)
    missing = await missing_scripts(connection)
    if missing:
        yield fail(
            f"schema ayb_realtime: {', '.join(s.name for s in missing)} missing or outdated",
            "start the relay, or run `python -m relay install` as the owner of the schema",
        )
        return
    yield ok("schema ayb_realtime is up to date")
    async for finding in tables(settings, connection):
        yield finding
    async for finding in _outbox(connection):
        yield finding


async def _server(connection: Connection) -> AsyncIterator[Finding]:
    began = time.time()
    server = await connection.fetchrow(_SQL["server"])
    yield skew("database", server["clock"], began, time.time())
    version = server["version_text"]
    if server["version"] < OLDEST_VERSION * 10_000:
        yield fail(f"Postgres {version} is too old", f"use Postgres {OLDEST_VERSION} or newer")
    else:
        yield ok(f"Postgres {version}")
    if server["is_standby"]:
        yield fail("AYB_DATABASE_URL leads to a standby", "the relay needs the primary")
    if server["encoding"] == "SQL_ASCII":
        yield fail(
            "the database's encoding is SQL_ASCII: text may be no text",
            "dump the database and restore it with encoding UTF8",
        )
    if server["prepared_transactions"] > 0:
        yield warn(
            "prepared transactions are possible: the relay polls instead of using NOTIFY",
            "set max_prepared_transactions to 0, or AYB_RELAY_NOTIFY=on if no transaction that "
            "writes to captured tables is ever prepared",
        )


async def _listen(settings: RelaySettings, connection: Connection) -> Finding:
    began = time.perf_counter()
    try:
        listener = await Listener.open(settings.database, RelayMetrics())
        try:
            await listener.test(connection)
        finally:
            await listener.close()
    except ListenError as error:
        return fail("LISTEN hears nothing", str(error))
    return ok(f"LISTEN hears NOTIFY ({(time.perf_counter() - began) * 1000:.0f} ms)")


async def _outbox(connection: Connection) -> AsyncIterator[Finding]:
    row = await connection.fetchrow(_SQL["outbox"])
    size = f"{row['bytes'] / 2**20:.0f} of {row['most_bytes'] / 2**20:.0f} MiB"
    if row["is_stopped"]:
        yield fail(
            f"capture has stopped: the outbox is full ({size})",
            "start the relay, end transactions that have been open for long, or raise "
            "AYB_REALTIME_OUTBOX_BYTES",
        )
    else:
        yield ok(f"outbox: {size}")
    if not row["may_rotate"]:
        yield fail(
            "this login may not rotate the outbox",
            "let the relay's login own the schema ayb_realtime and what is in it",
        )
    if await connection.fetchval(_SQL["relay_active"]):
        yield ok("a relay is active")
    else:
        yield warn("no relay is active", "start one: `python -m relay run`")
    age = await connection.fetchval(_SQL["oldest_transaction"])
    if age is not None and age > _LONG_SECONDS:
        yield warn(
            f"a transaction that writes has been open for {age:.0f} s: the outbox cannot be "
            "rotated past it",
            "see pg_stat_activity and pg_prepared_xacts",
        )


async def _redis(url: str) -> Finding:
    shown = redact(url)
    client = redis_client(url)
    channel = f"{ROOT}:doctor:{secrets.token_hex(8)}"
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            await client.publish(channel, b"test")
            async for message in pubsub.listen():
                if message["type"] == "message":
                    break
    except REDIS_UNAVAILABLE as error:
        return fail(
            f"Redis {shown}: {error or 'no answer'}",
            "check AYB_REDIS_URL, that the server runs, and the ACL: its user needs publish and "
            f"subscribe on channels {ROOT}:*",
        )
    finally:
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            await client.aclose()
    return ok(f"Redis {shown} passes messages on ({(time.perf_counter() - began) * 1000:.0f} ms)")
