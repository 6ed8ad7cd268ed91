"""The names of the Redis channels."""

from __future__ import annotations

TICK = "ayb:realtime:tick"
_TABLE = "ayb:realtime:table:"


def table_channel(table: str) -> str:
    """Name the channel of a table that is given as `schema.table`."""
    return _TABLE + table
