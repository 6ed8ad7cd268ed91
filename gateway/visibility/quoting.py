"""Names as SQL text, and text as part of a template of Postgres' `format`."""

from __future__ import annotations


def quote_name(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def escape_template(text: str) -> str:
    """Write a text so that `format` leaves it as it is."""
    return text.replace("%", "%%")
