"""Bringing the schema `ayb_realtime` up to date.

Migrations are numbered and additive, so that old and new pods can run side by side. Each is applied
once, in one transaction with a record of its checksum; concurrent starts wait for each other. An
applied migration is never edited: a checksum that differs stops the relay.

Functions are replaced as a whole where their checksum differs from the recorded one. A database
whose functions come from a newer release is left as it is: the older relay runs on until it is
replaced. A function that a release no longer has is dropped by the release after it, because
processes of the previous one may run beside it during an upgrade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from shared.errors import SchemaError
from shared.sql import FUNCTIONS_VERSION, functions, migrations, queries

if TYPE_CHECKING:
    from asyncpg import Connection

    from shared.sql import Script

log = structlog.get_logger(__name__)

_SQL: Final = queries("relay.schema")
_PREPARE_ATTEMPTS: Final = 5


async def missing_scripts(connection: Connection) -> list[Script]:
    """List the migrations that the database lacks, then the functions where they are outdated.

    Raises `SchemaError` where a migration was edited after it was applied.
    """
    known = migrations()
    if not await connection.fetchval(_SQL["has_migrations"]):
        return [*known, functions()]
    applied = {row["number"]: row for row in await connection.fetch(_SQL["applied_migrations"])}
    for migration in known:
        record = applied.get(migration.number)
        if record is not None and record["checksum"] != migration.checksum:
            raise SchemaError(
                f"migration {migration.name} differs from the one applied to this database: "
                "use the release that applied it, or a newer one"
            )
    missing = [migration for migration in known if migration.number not in applied]
    installed = await connection.fetchrow(_SQL["installed_functions"])
    if installed is None or (
        installed["version"] <= FUNCTIONS_VERSION and installed["checksum"] != functions().checksum
    ):
        missing.append(functions())
    return missing


async def migrate(connection: Connection) -> list[str]:
    """Apply what is missing and return its names.

    Raises `SchemaError` where the login may not, where an applied migration was edited, or where
    what is there cannot be replaced. A database that is up to date requires no privilege beyond
    reading the record.
    """
    if not await missing_scripts(connection):
        return []
    name = "functions"
    try:
        await _prepare(connection)
        async with connection.transaction():
            await connection.execute(_SQL["lock_migrations"])
            missing = await missing_scripts(connection)
            for script in missing:
                name = script.name
                await connection.execute(script.sql)
                if script.name == "functions":
                    await _retire_functions(connection)
                    await connection.execute(
                        _SQL["record_functions"], FUNCTIONS_VERSION, script.checksum
                    )
                else:
                    await connection.execute(
                        _SQL["record_migration"], script.number, script.name, script.checksum
                    )
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaError(
            f"the schema ayb_realtime is missing or too old, and this login may not change it "
            f"({error}): run `python -m relay install` as its owner"
        ) from None
    except asyncpg.SyntaxOrAccessError as error:
        remedy = error.hint or "something in it is not of this product's making: remove that"
        raise SchemaError(
            f"{name} cannot be applied to the schema ayb_realtime ({error.args[0]}): {remedy}"
        ) from None
    done = [script.name for script in missing]
    log.info("migrated", applied=done)
    return done


async def _retire_functions(connection: Connection) -> None:
    """Mark functions that this release no longer has, and drop those marked by an earlier one."""
    for row in await connection.fetch(_SQL["unused_functions"], FUNCTIONS_VERSION):
        await connection.execute(row["remedy"])
        log.debug("unused function", name=row["name"], remedy=row["remedy"])


async def _prepare(connection: Connection) -> None:
    """Make the tables that record what is applied; two that start at once may collide."""
    for attempt in range(_PREPARE_ATTEMPTS):
        try:
            async with connection.transaction():
                await connection.execute(_SQL["prepare_migrations"])
        except (
            asyncpg.UniqueViolationError,
            asyncpg.DuplicateObjectError,
            asyncpg.DuplicateTableError,
            asyncpg.DuplicateSchemaError,
        ):
            if attempt == _PREPARE_ATTEMPTS - 1:
                raise
        else:
            return
