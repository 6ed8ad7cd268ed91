"""The database that gateways ask: their login's rights, and how far a replica is behind."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import asyncpg

from relay.doctor.clock import compare_clocks
from relay.doctor.finding import Finding, fail, ok, warn
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Connection

    from relay.doctor.options import DoctorOptions

_SQL: Final = queries("relay.doctor")
_LAG_SECONDS: Final = 5.0


async def check_read_database(
    options: DoctorOptions, connection: Connection, position: object
) -> AsyncIterator[Finding]:
    """Check the gateways' login, and on a standby the way to the primary's WAL `position`.

    The position is None where the primary could not be asked.
    """
    async for finding in _check_login(options.auth_role, connection):
        yield finding
    began = time.time()
    server = await connection.fetchrow(_SQL["server"])
    yield compare_clocks("read database", server["clock"], began, time.time())
    if server["is_standby"] and position is not None:
        async for finding in _check_lag(connection, position):
            yield finding


async def _check_login(role: str, connection: Connection) -> AsyncIterator[Finding]:
    login = await connection.fetchrow(_SQL["login"], role)
    name = login["name"]
    if login["is_superuser"] or login["bypasses_rls"]:
        yield fail(
            f"the gateway's login {name} is not subject to Row-Level Security",
            f'use another one, or ALTER ROLE "{name}" NOSUPERUSER NOBYPASSRLS',
        )
    if not login["is_member"]:
        yield fail(
            f"the gateway's login {name} cannot act as {role}",
            f'GRANT "{role}" TO "{name}"',
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


async def _check_lag(connection: Connection, position: object) -> AsyncIterator[Finding]:
    """Measure how long a standby takes to reach the primary's position of just now."""
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
