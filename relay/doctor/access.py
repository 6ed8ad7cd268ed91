"""The doctor's look at tables, roles and the gateways' database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import asyncpg

from relay.capture.patterns import matches, parse_pattern
from relay.capture.triggers import list_tables
from relay.doctor.finding import Finding, fail, ok, warn
from shared.errors import AybError
from shared.postgres import UNAVAILABLE, connect
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Connection

    from relay.settings import RelaySettings
    from shared.postgres import DatabaseAddress

_SQL: Final = queries("relay.doctor")

_SKEW_SECONDS: Final = 1.0
_LAG_SECONDS: Final = 5.0


@contextlib.asynccontextmanager
async def connected(address: DatabaseAddress) -> AsyncIterator[Connection]:
    """Connect for as long as the context is open."""
    connection = await connect(address, application_name="ayb-relay doctor")
    try:
        yield connection
    finally:
        connection.terminate()


async def tables(settings: RelaySettings, connection: Connection) -> AsyncIterator[Finding]:
    """Look at every table that is to be captured: triggers, rights, policies."""
    patterns = [parse_pattern(text) for text in settings.realtime_tables]
    wanted = [t for t in await list_tables(connection) if matches(patterns, t.schema, t.name)]
    if not wanted:
        yield warn("no table is to be captured", "set AYB_REALTIME_TABLES, or create tables")
        return
    bare = [table for table in wanted if not table.is_captured]
    for table in bare:
        yield fail(
            f"{table.quoted} is not captured",
            "start the relay; if it may not: GRANT TRIGGER ON "
            f"{table.quoted} TO its login, or run `python -m relay install` as the table's owner",
        )
    if not bare:
        yield ok(f"every table is captured ({len(wanted)})")
    origin = [t.quoted for t in wanted if t.is_captured and any(s != "A" for *_, s in t.triggers)]
    if origin:
        yield warn(
            f"not captured when written by replication: {', '.join(origin)}",
            "if that matters, run `python -m relay install` as the tables' owner",
        )
    async for finding in _rights(settings, connection, [table.oid for table in wanted]):
        yield finding


async def _rights(
    settings: RelaySettings, connection: Connection, oids: list[int]
) -> AsyncIterator[Finding]:
    role = settings.auth_role
    attributes = await connection.fetchrow(_SQL["user_role"], role)
    if attributes is None:
        yield fail(f"role {role} does not exist", f'CREATE ROLE "{role}" NOLOGIN')
        return
    if attributes["is_superuser"] or attributes["bypasses_rls"]:
        yield fail(
            f"role {role} is not subject to Row-Level Security",
            f'ALTER ROLE "{role}" NOSUPERUSER NOBYPASSRLS',
        )
    else:
        yield ok(f"role {role} is subject to Row-Level Security")
    for row in await connection.fetch(_SQL["table_rights"], oids, role):
        table = row["quoted"]
        if not row["is_readable"]:
            yield warn(
                f"{table} is not readable for {role}: nobody can subscribe to it",
                f'GRANT SELECT ON {table} TO "{role}", or leave it out of AYB_REALTIME_TABLES',
            )
        elif not row["has_rls"]:
            yield warn(
                f"{table} has no Row-Level Security: every user sees every row",
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, and create policies",
            )
        elif not row["has_policies"]:
            yield warn(
                f"{table} has Row-Level Security and no policy: nobody sees a row",
                f"CREATE POLICY ... ON {table}",
            )
        if not row["has_key"]:
            yield warn(
                f"{table} has no primary key: a delete tells clients nothing about the row",
                f"ALTER TABLE {table} ADD PRIMARY KEY (...)",
            )


async def read_database(
    settings: RelaySettings, address: DatabaseAddress, primary: Connection
) -> AsyncIterator[Finding]:
    """Look at the gateways' login, and at how far their database is behind."""
    position = await primary.fetchval(_SQL["insert_position"])
    try:
        async with connected(address) as connection:
            async for finding in _gateway_login(settings, connection):
                yield finding
            began = time.time()
            server = await connection.fetchrow(_SQL["server"])
            yield skew("read database", server["clock"], began, time.time())
            if server["is_standby"]:
                async for finding in _lag(connection, position):
                    yield finding
    except (*UNAVAILABLE, AybError) as error:
        yield fail(f"read database: {error}", "check AYB_READ_DATABASE_URL")


async def _gateway_login(settings: RelaySettings, connection: Connection) -> AsyncIterator[Finding]:
    login = await connection.fetchrow(_SQL["login"], settings.auth_role)
    name = login["name"]
    if login["is_superuser"] or login["bypasses_rls"]:
        yield fail(
            f"the gateway's login {name} is not subject to Row-Level Security",
            f'use another one, or ALTER ROLE "{name}" NOSUPERUSER NOBYPASSRLS',
        )
    if not login["is_member"]:
        yield fail(
            f"the gateway's login {name} cannot act as {settings.auth_role}",
            f'GRANT "{settings.auth_role}" TO "{name}"',
        )
    try:
        rights = await connection.fetchrow(_SQL["gateway_rights"])
    except asyncpg.InsufficientPrivilegeError:
        rights = {"may_read": False, "may_write": False}
    if not rights["may_read"]:
        yield fail(
            f"the gateway's login {name} cannot read the outbox",
            "run `python -m relay roles | psql`, which grants it",
        )
    elif rights["may_write"]:
        yield warn(
            f"the gateway's login {name} may write to the outbox",
            f'REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ayb_realtime.changes FROM "{name}"',
        )
    else:
        yield ok(f"the gateway's login {name} may read the outbox and nothing more")


async def _lag(connection: Connection, position: int) -> AsyncIterator[Finding]:
    """See how long a standby takes to get where the primary was just now."""
    began = time.monotonic()
    while True:
        replay = await connection.fetchrow(_SQL["replay"], position)
        waited = time.monotonic() - began
        if replay["bytes"] == 0 or waited > _LAG_SECONDS:
            break
        await asyncio.sleep(0.05)
    if replay["bytes"] > 0:
        yield fail(
            f"the read replica is more than {_LAG_SECONDS:.0f} s behind "
            f"({replay['bytes']} bytes): events wait for it",
            "see pg_stat_replication on the primary; is recovery_min_apply_delay set?",
        )
    else:
        yield ok(f"the read replica keeps up ({waited * 1000:.0f} ms)")
    if not replay["has_feedback"]:
        yield warn(
            "hot_standby_feedback is off: questions on the replica may be cancelled",
            "set hot_standby_feedback = on there",
        )


def skew(name: str, clock: float, began: float, ended: float) -> Finding:
    """Compare a server's clock with ours; it was asked between `began` and `ended`."""
    apart = max(began - clock, clock - ended, 0.0)
    if apart > _SKEW_SECONDS:
        return warn(
            f"the clock of the {name} and of this machine are {apart:.1f} s apart: tokens expire "
            "at the wrong time and delays are measured wrongly",
            "run NTP on both",
        )
    return ok(f"clock of the {name}: at most {max(apart, ended - began):.2f} s apart")
