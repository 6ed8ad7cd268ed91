"""The primary: its version and settings, LISTEN, the outbox, and which relay leads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from relay.doctor.clock import compare_clocks
from relay.doctor.finding import Finding, fail, ok, warn
from relay.metrics import RelayMetrics
from relay.session.wakeup import Listener, ListenError
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Connection

    from shared.postgres import DatabaseAddress

OLDEST_VERSION: Final = 14
_LONG_SECONDS: Final = 300.0
_SILENT_SECONDS: Final = 15.0
_QUEUE_SHARE: Final = 0.1

_SQL: Final = queries("relay.doctor")
_SESSION_SQL: Final = queries("relay.session")


async def check_server(connection: Connection) -> AsyncIterator[Finding]:
    """Check version, clock and the settings that matter."""
    began = time.time()
    server = await connection.fetchrow(_SQL["server"])
    yield compare_clocks("database", server["clock"], began, time.time())
    version = server["version_text"]
    if server["version"] < OLDEST_VERSION * 10_000:
        yield fail(f"Postgres {version} is too old", f"use Postgres {OLDEST_VERSION} or newer")
    else:
        yield ok(f"Postgres {version}")
    if server["is_standby"]:
        yield fail("AYB_DATABASE_URL leads to a standby", "the relay needs the primary")
    if server["encoding"] == "SQL_ASCII":
        yield fail(
            "the database's encoding is SQL_ASCII, which accepts bytes that are no text",
            "dump the database and restore it with encoding UTF8",
        )
    if server["prepared_transactions"] > 0:
        yield warn(
            "prepared transactions are possible: the relay polls instead of using NOTIFY",
            "set max_prepared_transactions to 0, or AYB_RELAY_NOTIFY=on if no transaction that "
            "writes to captured tables is ever prepared",
        )


async def check_listen(address: DatabaseAddress, connection: Connection) -> Finding:
    """Check that a notification of one connection reaches another."""
    began = time.perf_counter()
    try:
        listener = await Listener.open(address, RelayMetrics())
        try:
            await listener.listen()
            await listener.test(connection)
        finally:
            await listener.close()
    except ListenError as error:
        return fail("LISTEN receives nothing", str(error))
    return ok(f"LISTEN receives NOTIFY ({(time.perf_counter() - began) * 1000:.0f} ms)")


async def check_outbox(connection: Connection) -> AsyncIterator[Finding]:
    """Check the outbox's size, its readers, and what keeps it from being emptied."""
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
    leader = await connection.fetchrow(_SQL["leader"])
    if leader is None:
        yield warn("no relay is active", "start one: `python -m relay run`")
    else:
        who = (
            f"{leader['name']}, as {leader['login']} from {leader['address']} (pid {leader['pid']} "
            f"at the server), leads since {leader['since']:%Y-%m-%d %H:%M:%S} UTC"
        )
        if leader["silent_seconds"] > _SILENT_SECONDS:
            yield warn(
                f"the active relay has been silent for {leader['silent_seconds']:.0f} s: {who}",
                "look at its log; a standby takes over if the relay has vanished",
            )
        else:
            yield ok(f"a relay is active: {who}")
        if leader["is_hidden"]:
            yield warn(
                "this login cannot see the session of the active relay, which has another login",
                "give all relays the same login, or GRANT pg_read_all_stats TO this one",
            )
    for relay in await connection.fetch(_SQL["relays"]):
        yield ok(
            f"relay {relay['name']}: {'leads' if relay['is_leading'] else 'stands by'}, priority "
            f"{relay['priority']}, round trip {relay['round_trip_ms']:.1f} ms, reaches "
            f"{relay['redis_up']} Redis"
        )
    queue = await connection.fetchrow(_SESSION_SQL["notification_queue"])
    if queue["usage"] > _QUEUE_SHARE:
        yield warn(
            f"the server's queue of notifications is {queue['usage']:.0%} full; when it is full, "
            "every NOTIFY fails",
            "end the oldest transactions of sessions that LISTEN: "
            + ("; ".join(queue["suspects"]) or "GRANT pg_read_all_stats TO this login to see them"),
        )
    age = await connection.fetchval(_SQL["oldest_transaction"])
    if age is not None and age > _LONG_SECONDS:
        yield warn(
            f"a transaction that writes has been open for {age:.0f} s: the outbox cannot be "
            "rotated past it",
            "see pg_stat_activity and pg_prepared_xacts",
        )
