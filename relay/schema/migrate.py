"""Bringing the schema `ayb_realtime` up to date.

Migrations are numbered and additive, so that old and new pods can run side by side. Each is applied
once, in one transaction with the note that it was; concurrent starts wait for each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from shared.errors import SchemaError
from shared.sql import migrations, queries

if TYPE_CHECKING:
    from asyncpg import Connection

log = structlog.get_logger(__name__)

_SQL: Final = queries("relay.schema")


async def missing_migrations(connection: Connection) -> list[tuple[int, str, str]]:
    """List the migrations that the database has not got, as (number, name, SQL)."""
    exists = await connection.fetchval(_SQL["has_migrations"])
    applied = await connection.fetchval(_SQL["applied_migrations"]) if exists else []
    return [migration for migration in migrations() if migration[0] not in applied]


async def migrate(connection: Connection) -> list[str]:
    """Apply what is missing and list it; raises `SchemaError` where the login may not.

    A database that is up to date needs no right for it but to read what was applied.
    """
    if not await missing_migrations(connection):
        return []
    try:
        async with connection.transaction():
            await connection.execute(_SQL["lock_migrations"])
            await connection.execute(_SQL["prepare_migrations"])
            done = []
            for number, name, sql in await missing_migrations(connection):
                await connection.execute(sql)
                await connection.execute(_SQL["note_migration"], number, name)
                done.append(f"{number:04}_{name}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaError(
            f"the schema ayb_realtime is missing or too old, and this login may not change it "
            f"({error}): run `python -m relay install` as its owner"
        ) from None
    log.info("migrated", migrations=done)
    return done
