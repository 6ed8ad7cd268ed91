"""The queue of notifications, which all of Postgres shares.

It is emptied as far as every listening session has read it, and a session in a transaction does
not read. One such session fills the queue in time, and then every transaction that notifies fails.
A writer must never fail by our NOTIFY, so the relay does not sleep while the queue is filling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared.sql import queries

if TYPE_CHECKING:
    from asyncpg import Connection

    from relay.metrics import RelayMetrics

log = structlog.get_logger(__name__)

FILLING: Final = 0.25
"""The share from which on the queue counts as filling ..."""

DRAINED: Final = 0.1
"""... and below which it no longer does."""

_SQL: Final = queries("relay.session")


@dataclass(slots=True)
class NotifyQueue:
    """Whether the queue is filling, by the last look at it."""

    metrics: RelayMetrics
    is_filling: bool = False
    note: str | None = None
    """What an operator should know while it is filling."""

    async def look(self, connection: Connection) -> bool:
        """Look at the queue; returns whether it is filling."""
        row = await connection.fetchrow(_SQL["notification_queue"])
        usage = row["usage"]
        self.metrics.notification_queue.set(usage)
        was_filling = self.is_filling
        self.is_filling = usage > (DRAINED if was_filling else FILLING)
        suspects = "; ".join(row["suspects"]) or "none that this login may see (pg_read_all_stats)"
        self.note = (
            f"{usage:.0%} full: polling instead of NOTIFY. A session that listens and stays in a "
            f"transaction holds it up; the oldest transactions: {suspects}"
            if self.is_filling
            else None
        )
        if self.is_filling and not was_filling:
            log.warning("the notification queue is filling", usage=usage, suspects=suspects)
        elif was_filling and not self.is_filling:
            log.info("the notification queue has drained", usage=usage)
        return self.is_filling
