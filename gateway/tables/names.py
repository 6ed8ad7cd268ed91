"""The `tables` parameter: names as clients write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_TABLES: Final = 100
MOST_CHARACTERS: Final = 8192


@dataclass(frozen=True, slots=True)
class TableName:
    """A table as asked for: perhaps without a schema."""

    schema: str | None
    table: str
    text: str
    """As the client wrote it, for messages."""


def parse_tables(parameter: str) -> list[TableName]:
    """Read a comma-separated list of names; blanks around them and empty ones are skipped.

    `schema.table` names a schema; a part may be double-quoted as in SQL, a quote in it doubled.
    Raises `ValueError` with the text of the first name that cannot be read.
    """
    names: dict[TableName, None] = {}
    for text in _split(parameter, ","):
        written = text.strip()
        if not written:
            continue
        parts = [_unquote(part.strip(), written) for part in _split(written, ".")]
        if len(parts) > 2:
            raise ValueError(written)
        schema = parts[0] if len(parts) == 2 else None
        names[TableName(schema, parts[-1], written)] = None
    return list(names)


def spell_table(schema: str, table: str) -> str:
    """Write a table as `parse_tables` reads it, bare in `public`."""
    return _quoted(table) if schema == "public" else f"{_quoted(schema)}.{_quoted(table)}"


def _quoted(name: str) -> str:
    if any(mark in name for mark in ',."') or name != name.strip():
        return '"' + name.replace('"', '""') + '"'
    return name


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that stand outside of double quotes."""
    if '"' not in text:
        return text.split(separator)
    pieces, start, quoted = [], 0, False
    for at, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]


def _unquote(part: str, written: str) -> str:
    if part.startswith('"'):
        inner = part[1:-1]
        if len(part) < 3 or not part.endswith('"') or '"' in inner.replace('""', ""):
            raise ValueError(written)
        name = inner.replace('""', '"')
    else:
        name = part
        if '"' in name:
            raise ValueError(written)
    if not name or "\x00" in name:
        raise ValueError(written)
    return name
