"""Table messages that wait for the tick of their batch, bounded in bytes of this process."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from shared.change import memory_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.change import TableChanges, TableMessage

MOST_BATCHES: Final = 64

BatchKey = tuple[int, int]
"""Epoch and number."""


class PendingTables:
    """What has arrived of batches whose tick has not.

    Past `most_bytes`, or `MOST_BATCHES`, the batches that began first are given up: their ticks
    arrive without content, and they are read from the outbox.
    """

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._batches: OrderedDict[BatchKey, dict[int, tuple[TableChanges, int]]] = OrderedDict()

    @property
    def bytes(self) -> int:
        """What the messages that wait cost, in bytes of this process."""
        return self._bytes

    def add(self, message: TableMessage, encoded_bytes: int) -> None:
        """Keep a message of `encoded_bytes` until its tick; one that is here is replaced."""
        key = (message.epoch, message.batch)
        content = message.content
        tables = self._batches.setdefault(key, {})
        self._forget_table(tables, content.relid)
        cost = memory_bytes(encoded_bytes, len(content.changes))
        tables[content.relid] = (content, cost)
        self._bytes += cost
        while self._bytes > self._most_bytes or len(self._batches) > MOST_BATCHES:
            _, given_up = self._batches.popitem(last=False)
            self._bytes -= sum(cost for _, cost in given_up.values())

    def take(self, key: BatchKey) -> tuple[Mapping[int, TableChanges], int]:
        """Return what arrived of a batch, by oid of the table, with its cost in bytes."""
        tables = self._batches.pop(key, {})
        cost = sum(cost for _, cost in tables.values())
        self._bytes -= cost
        return {relid: content for relid, (content, _) in tables.items()}, cost

    def clear(self) -> None:
        """Give up everything: the connection to Redis was lost, and messages with it."""
        self._batches.clear()
        self._bytes = 0

    def _forget_table(self, tables: dict[int, tuple[TableChanges, int]], relid: int) -> None:
        replaced = tables.pop(relid, None)
        if replaced is not None:
            self._bytes -= replaced[1]
