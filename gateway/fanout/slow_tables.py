"""Which tables are slow to judge, for whom, and for how long they count as such.

What Postgres is asked about one table may take long: a policy that loops over clients, one that
never ends, DDL that holds a lock. The live connections of all tables are served in one round, so a
table whose question takes longer than `PATIENCE_SECONDS` leaves that round: its connections go to a
*lane* of the table (`gateway.fanout.lane`) and follow there at the pace of its questions.

A table stays slow until its questions have been quick for `CALM_SECONDS`. Each time the live round
has to give up on it, it waited for nothing, so a table that turns slow again soon after it calmed
down must then be quick for twice as long: an occasionally slow table costs the others a bounded
share of their time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.streams.connection import Connection

PATIENCE_SECONDS: Final = 0.75
"""How long the questions about other tables may wait for one.

Longer than a question waits for a read replica that lags (half a second), which all tables share.
"""

CALM_SECONDS: Final = 5.0
_MOST_CALM_SECONDS: Final = 320.0
_MOST_KEPT: Final = 10_000

TableRole = tuple[str, str]
"""A table, as `schema.table`, and the role it is judged for; a question is about one of these."""


def tables_of(connection: Connection) -> list[TableRole]:
    """Return what is asked about for a connection; the role is empty without authentication."""
    role = connection.role or ""
    return [(table, role) for table in connection.tables]


@dataclass(slots=True)
class _Slow:
    seconds: float
    until: float
    calm_seconds: float


class SlowTables:
    """Remembers how long questions took. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._slow: dict[TableRole, _Slow] = {}

    def note(self, table: TableRole, seconds: float, now: float) -> None:
        """Take in that a question has taken, or was given up after, some time."""
        if seconds < PATIENCE_SECONDS:
            return
        known = self._slow.get(table)
        if known is None:
            self._make_room(now)
            self._slow[table] = _Slow(seconds, now + CALM_SECONDS, CALM_SECONDS)
            return
        if known.until <= now:
            known.calm_seconds = min(2 * known.calm_seconds, _MOST_CALM_SECONDS)
        known.seconds = seconds
        known.until = now + known.calm_seconds

    def seconds(self, table: TableRole, now: float) -> float:
        """Return how long the last slow question about a slow table took; 0 if it is not slow."""
        known = self._slow.get(table)
        return 0.0 if known is None or known.until <= now else known.seconds

    def slowest_of(self, connection: Connection, now: float) -> TableRole | None:
        """Return the slowest of a connection's tables; None if none of them is slow."""
        if not self._slow:
            return None
        slow = [(self.seconds(table, now), table) for table in tables_of(connection)]
        seconds, table = max(slow, default=(0.0, None))
        return table if seconds else None

    def _make_room(self, now: float) -> None:
        """Forget the tables that have been quick for so long that it no longer matters."""
        if len(self._slow) >= _MOST_KEPT:
            self._slow = {
                table: known
                for table, known in self._slow.items()
                if known.until + _MOST_CALM_SECONDS > now
            }
        while len(self._slow) >= _MOST_KEPT:
            del self._slow[next(iter(self._slow))]
