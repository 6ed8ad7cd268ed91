"""The ring: the newest batches in memory, bounded in bytes of this process."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.change import Batch, TableChanges, Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.fanout.subscriptions import Subscriptions

MOST_BATCHES_A_READ: Final = 500
MOST_CHANGES_A_READ: Final = 2_000
MOST_BYTES_A_READ: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RingEntry:
    """What the ring holds of one batch: the tick, and the content of some of its tables.

    `size` is what it costs in this process, in bytes.
    """

    tick: Tick
    tables: Mapping[int, TableChanges]
    size: int

    def has_all_of(self, subscriptions: Subscriptions) -> bool:
        """Whether the content of every wanted table is here."""
        return all(
            table.relid in self.tables
            for table in self.tick.tables
            if subscriptions.wants(table.table, table.relid)
        )

    def batch(self, subscriptions: Subscriptions) -> Batch:
        """Return the batch with the wanted tables, all of which are here."""
        tick = self.tick
        wanted = tuple(
            self.tables[table.relid]
            for table in tick.tables
            if subscriptions.wants(table.table, table.relid)
        )
        return Batch(tick.epoch, tick.batch, tick.lsn, tick.at, wanted, tick.trace)


class Ring:
    """Keeps batches by their number; past `most_bytes` the oldest goes, the newest always stays."""

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[int, RingEntry] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What the batches cost in this process, in bytes."""
        return self._bytes

    def get(self, batch: int) -> RingEntry | None:
        """Return what is held of a batch, None if nothing is."""
        return self._entries.get(batch)

    def keep(self, entry: RingEntry) -> None:
        """Keep a batch of which nothing is held yet."""
        self._entries[entry.tick.batch] = entry
        self._bytes += entry.size
        while self._bytes > self._most_bytes and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= dropped.size

    def drop(self, is_dropped: Callable[[RingEntry], bool]) -> None:
        """Drop the batches for which the predicate holds."""
        numbers = [number for number, entry in self._entries.items() if is_dropped(entry)]
        for number in numbers:
            self._bytes -= self._entries.pop(number).size

    def read(self, after: int, upto: int, subscriptions: Subscriptions) -> list[Batch]:
        """Return the batches after one, in order, up to another, as far as one portion goes.

        It ends at the first batch of which a wanted table is missing.
        """
        batches: list[Batch] = []
        changes = size = 0
        for number in range(after + 1, min(upto, after + MOST_BATCHES_A_READ) + 1):
            entry = self._entries.get(number)
            if entry is None or not entry.has_all_of(subscriptions):
                break
            batch = entry.batch(subscriptions)
            changes += sum(len(table.changes) for table in batch.tables)
            size += entry.size
            if batches and (changes > MOST_CHANGES_A_READ or size > MOST_BYTES_A_READ):
                break
            batches.append(batch)
        return batches
