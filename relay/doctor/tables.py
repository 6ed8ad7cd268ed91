"""What is to be captured: triggers, the rights of users, policies, columns with secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from relay.capture.patterns import leaves_out, matches
from relay.capture.triggers import list_tables
from relay.doctor.finding import Finding, fail, ok, warn
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from asyncpg import Connection

    from relay.capture.patterns import Pattern
    from relay.capture.triggers import Table

_SQL: Final = queries("relay.doctor")
_MOST_NAMES: Final = 20
_SECRET: Final = re.compile(
    r"(?i)passw(or)?d|passphrase|pwd|secret|(^|_)token|api_?key|private_?key|(^|_)salt$|(^|_)otp"
    r"|_hash$|^hash$|^hashed|credential|(^|_)ssn$|card_?number|(^|_)cvv"
)


async def check_tables(
    connection: Connection, patterns: Sequence[Pattern], role: str
) -> AsyncIterator[Finding]:
    """Check every table that the patterns mean, and that each pattern means one.

    `role` is the role of users with a token.
    """
    tables = await list_tables(connection)
    wanted = [t for t in tables if matches(patterns, t.schema, t.name)]
    for pattern in patterns:
        if not pattern.excludes and not any(matches([pattern], t.schema, t.name) for t in tables):
            yield warn(
                f"{pattern.text} in AYB_REALTIME_TABLES means no table",
                "correct it, or create the table; names are folded to lower case unless quoted",
            )
    if bookkeeping := [t for t in tables if leaves_out(patterns, t.schema, t.name)]:
        yield ok(
            f"left out as bookkeeping of frameworks: {_names(bookkeeping)} "
            "(to capture one, name it in AYB_REALTIME_TABLES)"
        )
    if not wanted:
        yield warn("no table is to be captured", "set AYB_REALTIME_TABLES, or create tables")
        return
    for finding in _check_triggers(wanted):
        yield finding
    async for finding in _check_rights(connection, wanted, role):
        yield finding


def _check_triggers(wanted: Sequence[Table]) -> list[Finding]:
    findings = []
    for table in wanted:
        if table.is_captured:
            continue
        is_disabled = table.wanted.keys() <= {name for name, *_ in table.triggers}
        findings.append(
            fail(
                f"{table.quoted} is not captured"
                + (": its capture triggers are disabled" if is_disabled else ""),
                f"start the relay; if it may not: GRANT TRIGGER ON {table.quoted} TO its login, "
                "or run `python -m relay install` as the table's owner",
            )
        )
    captured = [table for table in wanted if table.is_captured]
    if captured:
        findings.append(ok(f"captured: {_names(captured)}"))
    if origin := [t for t in captured if any(state != "A" for *_, state in t.triggers)]:
        findings.append(
            warn(
                f"{_names(origin)}: rows written under session_replication_role = replica (by "
                "logical replication, restores and some migration tools) are not captured",
                "if that matters, run `python -m relay install` as the tables' owner, which makes "
                "the triggers ENABLE ALWAYS",
            )
        )
    return findings


async def _check_rights(
    connection: Connection, wanted: Sequence[Table], role: str
) -> AsyncIterator[Finding]:
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
    for row in await connection.fetch(_SQL["table_rights"], [t.oid for t in wanted], role):
        table = row["quoted"]
        if not row["is_readable"]:
            yield warn(
                f"{table} is not readable for {role}: nobody can subscribe to it",
                f'GRANT SELECT ON {table} TO "{role}", or leave it out: !{table}',
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
        if secrets := [name for name in row["readable"] if _SECRET.search(name)]:
            yield warn(
                f"{table}: columns that look like secrets are sent to whoever sees the row: "
                f"{', '.join(secrets)}",
                f"let {role} read the other columns only (REVOKE SELECT ON {table}, then GRANT "
                f"SELECT (column, ...)); or leave the table out: !{table}",
            )
        if not row["has_key"]:
            yield warn(
                f"{table} has no primary key: a delete says nothing about the row",
                f"ALTER TABLE {table} ADD PRIMARY KEY (...)",
            )


def _names(tables: Sequence[Table]) -> str:
    names = [table.quoted for table in tables[:_MOST_NAMES]]
    more = len(tables) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
