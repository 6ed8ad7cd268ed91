"""Which tables are captured: patterns `schema.table`.

`*` stands for any characters. A part in double quotes is taken as it is, a quote in it doubled; a
part without them is folded to lower case, as in SQL. A bare name means the schema `public`. A
pattern that begins with `!` takes tables out again. AYB's own tables (`_ayb_*`) are left out unless
a pattern names them without a wildcard.
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
_NEVER: Final = ("pg_catalog", "information_schema", "ayb_realtime")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern; its parts are regular expressions."""

    schema: re.Pattern[str]
    table: re.Pattern[str]
    excludes: bool
    is_exact: bool


def parse_pattern(text: str) -> Pattern:
    """Read a pattern; raises `SettingsError` with the text where it is none."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise SettingsError(f"AYB_REALTIME_TABLES: not a table pattern: {text}")
    excludes, schema, table = match.group(1) == "!", match.group(2) or "public", match.group(3)
    is_exact = not any("*" in part and not part.startswith('"') for part in (schema, table))
    return Pattern(_expression(schema), _expression(table), excludes, is_exact)


def _expression(part: str) -> re.Pattern[str]:
    if part.startswith('"'):
        return re.compile(re.escape(part[1:-1].replace('""', '"')))
    return re.compile(".*".join(re.escape(piece) for piece in part.lower().split("*")), re.DOTALL)


def matches(patterns: Iterable[Pattern], schema: str, table: str) -> bool:
    """Tell whether a table is to be captured."""
    if schema in _NEVER or schema.startswith("pg_"):
        return False
    wanted = False
    for pattern in patterns:
        if pattern.schema.fullmatch(schema) and pattern.table.fullmatch(table):
            if pattern.excludes:
                return False
            wanted = wanted or pattern.is_exact or not table.startswith(_OWN)
    return wanted
