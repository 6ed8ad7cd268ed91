"""NOTIFY with the row: a trigger that sends each row, and a session that listens.

The common way to do without an outbox. Rows of 8,000 bytes or more make the writer fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import asyncpg

if TYPE_CHECKING:
    from types import TracebackType

_CHANNEL: Final = "rows"
FUNCTION: Final = """
CREATE FUNCTION public.notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('rows', row_to_json(NEW)::text);
    RETURN NULL;
END $$
"""
TRIGGER: Final = """
CREATE TRIGGER notify_row AFTER INSERT OR UPDATE ON public.{table}
    FOR EACH ROW EXECUTE FUNCTION public.notify_row()
"""


@dataclass
class RowListener:
    """A session that listens, and counts what it receives."""

    dsn: str
    received: int = 0

    async def __aenter__(self) -> Self:
        self._connection = await asyncpg.connect(self.dsn)
        await self._connection.add_listener(_CHANNEL, self._receive)
        return self

    def _receive(self, *_: object) -> None:
        self.received += 1

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.close()
