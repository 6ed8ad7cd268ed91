"""The last read of the outbox, kept for a moment.

Clients that come back after a restart all lack the same batches, which are in no gateway's memory.
They are served in rounds (`gateway.fanout.lane`), and each round would read these batches again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from shared.change import Batch

KEPT_SECONDS: Final = 1.0


class RecentRead:
    """One portion of batches, with the content of the tables that were wanted when it was read."""

    def __init__(self) -> None:
        self._batches: Sequence[Batch] = ()
        self._tables: frozenset[str] = frozenset()
        self._relids: frozenset[int] = frozenset()
        self._read_at = float("-inf")

    def keep(
        self,
        batches: Sequence[Batch],
        *,
        tables: Collection[str],
        relids: Collection[int],
        now: float,
    ) -> None:
        """Keep what was read at `now` (monotonic seconds), in place of what was kept before.

        The tables are those that the read asked for, by name or OID.
        """
        self._batches = batches
        self._tables = frozenset(tables)
        self._relids = frozenset(relids)
        self._read_at = now

    def read(
        self,
        after: int,
        upto: int,
        *,
        tables: Collection[str],
        relids: Collection[int],
        now: float,
    ) -> list[Batch]:
        """Return the batches after one, in order, up to another, as far as they are kept."""
        is_fit = (
            now - self._read_at < KEPT_SECONDS
            and self._tables.issuperset(tables)
            and self._relids.issuperset(relids)
        )
        batches = [b for b in self._batches if after < b.id <= upto] if is_fit else []
        return batches if batches and batches[0].id == after + 1 else []

    def drop(self) -> None:
        """Keep nothing."""
        self._batches = ()
