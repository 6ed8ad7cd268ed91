"""Which tables are captured: patterns `schema.table`.

`*` stands for any characters. A part in double quotes is taken as it is, a quote in it doubled; a
part without them is folded to lower case, as in SQL. A bare name means the schema `public`. A
pattern that begins with `!` takes tables out again.

A wildcard never means bookkeeping: AYB's own tables (`_ayb_*`) and those in which frameworks keep
their migrations and sessions. The list has only names that leave no doubt, since leaving out a
table of an application loses its events. A pattern without a wildcard captures these too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PART: Final = r'(?:"(?:[^"]|"")+"|[^"!.\s][^".\s]*)'
_FORM: Final = re.compile(rf"(!?)(?:({_PART})\.)?({_PART})")
_OWN: Final = "_ayb_"
BOOKKEEPING: Final = frozenset(
    {
        "__diesel_schema_migrations",
        "__drizzle_migrations",
        "__EFMigrationsHistory",
        "_prisma_migrations",
        "_sqlx_migrations",
        "alembic_version",
        "ar_internal_metadata",
        "databasechangelog",
        "databasechangeloglock",
        "django_admin_log",
        "django_content_type",
        "django_migrations",
        "django_session",
        "doctrine_migration_versions",
        "flyway_schema_history",
        "goose_db_version",
        "gorp_migrations",
        "knex_migrations",
        "knex_migrations_lock",
        "kysely_migration",
        "kysely_migration_lock",
        "mikro_orm_migrations",
        "pgmigrations",
        "phinxlog",
        "refinery_schema_history",
        "schema_migrations",
        "SequelizeMeta",
        "spatial_ref_sys",
        "typeorm_metadata",
    }
)
"""Names of tables that frameworks and extensions keep for themselves."""

_NEVER: Final = ("pg_catalog", "information_schema", "ayb_realtime")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern; its parts are regular expressions."""

    text: str
    schema: re.Pattern[str]
    table: re.Pattern[str]
    excludes: bool
    is_exact: bool


def parse_pattern(text: str) -> Pattern:
    """Read a pattern; raises `SettingsError` with the text if it is not one."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise SettingsError(f"AYB_REALTIME_TABLES: not a table pattern: {text}")
    excludes, schema, table = match.group(1) == "!", match.group(2) or "public", match.group(3)
    is_exact = not any("*" in part and not part.startswith('"') for part in (schema, table))
    return Pattern(text, _expression(schema), _expression(table), excludes, is_exact)


def _expression(part: str) -> re.Pattern[str]:
    if part.startswith('"'):
        return re.compile(re.escape(part[1:-1].replace('""', '"')))
    return re.compile(".*".join(re.escape(piece) for piece in part.lower().split("*")), re.DOTALL)


def matches(patterns: Iterable[Pattern], schema: str, table: str) -> bool:
    """Return whether a table is to be captured."""
    fitting = _fitting(patterns, schema, table)
    if any(pattern.excludes for pattern in fitting):
        return False
    return any(pattern.is_exact or not is_bookkeeping(table) for pattern in fitting)


def leaves_out(patterns: Iterable[Pattern], schema: str, table: str) -> bool:
    """Return whether a table is not captured only because it is bookkeeping."""
    fitting = _fitting(patterns, schema, table)
    is_by_wildcard = bool(fitting) and not any(p.excludes or p.is_exact for p in fitting)
    return is_by_wildcard and is_bookkeeping(table)


def is_bookkeeping(table: str) -> bool:
    """Return whether a table is one that a framework, or AYB, keeps for itself."""
    return table in BOOKKEEPING or table.startswith(_OWN)


def _fitting(patterns: Iterable[Pattern], schema: str, table: str) -> list[Pattern]:
    if schema in _NEVER or schema.startswith("pg_"):
        return []
    return [p for p in patterns if p.schema.fullmatch(schema) and p.table.fullmatch(table)]
