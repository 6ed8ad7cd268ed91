"""Names as SQL text."""

from __future__ import annotations


def quote_name(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'
