"""gateway.fanout.ring: the newest batches in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.fanout import ring as ring_module
from gateway.fanout.ring import Ring, RingEntry
from gateway.fanout.subscriptions import Subscriptions
from shared.change import FORMAT, Change, Op, TableChanges, Tick, TickTable
from tests.unit.gateway.fanout.test_subscriptions import connection

if TYPE_CHECKING:
    import pytest

A, B = ("public.a", 1), ("public.b", 2)


def entry(
    batch: int, *named: tuple[str, int], held: int | None = None, size: int = 10, changes: int = 1
) -> RingEntry:
    """A batch whose tick names some tables, the first of which are held."""
    made = tuple(Change(n, n, Op.CREATE, msgspec.Raw(b"{}")) for n in range(changes))
    tables = tuple(TickTable(table, relid, changes) for table, relid in named)
    content = {relid: TableChanges(table, relid, ("id",), made) for table, relid in named[:held]}
    return RingEntry(Tick(FORMAT, "0" * 16, 1, batch, 0, 0.0, tables), content, size)


def wanting(*tables: str) -> Subscriptions:
    """The subscriptions of one connection."""
    found = Subscriptions()
    found.add(connection(*tables))
    return found


def read(ring: Ring, after: int, upto: int, *tables: str) -> list[tuple[int, list[str]]]:
    """The batches that are read, with their tables."""
    batches = ring.read(after, upto, wanting(*tables))
    return [(batch.id, [table.table for table in batch.tables]) for batch in batches]


def test_reading_ends_where_something_wanted_is_missing() -> None:
    """A batch without its content, or one that is not held, ends the portion."""
    ring = Ring(most_bytes=1_000)
    ring.keep(entry(1, A, B))
    ring.keep(entry(2, A, B, held=1))
    ring.keep(entry(4, A))
    assert read(ring, 0, 9, "public.a") == [(1, ["public.a"]), (2, ["public.a"])]
    assert read(ring, 0, 9, "public.b") == [(1, ["public.b"])]
    assert read(ring, 0, 1, "public.a") == [(1, ["public.a"])]
    assert read(ring, 2, 9, "public.a") == []


def test_a_portion_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portion has so many batches, changes and bytes, but always one batch."""
    ring = Ring(most_bytes=10**9)
    for number in range(1, 5):
        ring.keep(entry(number, A, changes=3, size=100))
    for name, value, expected in (
        ("MOST_BATCHES_A_READ", 2, 2),
        ("MOST_CHANGES_A_READ", 7, 2),
        ("MOST_CHANGES_A_READ", 1, 1),
        ("MOST_BYTES_A_READ", 350, 3),
        ("MOST_BYTES_A_READ", 1, 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(ring_module, name, value)
            assert len(ring.read(0, 9, wanting("public.a"))) == expected


def test_the_oldest_goes_and_the_newest_stays() -> None:
    """Past the bound in bytes the oldest batches are dropped, never the newest."""
    ring = Ring(most_bytes=25)
    for number in range(1, 4):
        ring.keep(entry(number, A))
    assert ring.get(1) is None
    assert ring.bytes == 20
    ring.keep(entry(4, A, size=1_000))
    assert [number for number in range(1, 5) if ring.get(number)] == [4]
    assert ring.bytes == 1_000


def test_dropping() -> None:
    """What the predicate names is dropped, with its bytes."""
    ring = Ring(most_bytes=1_000)
    for number in range(1, 4):
        ring.keep(entry(number, A))
    ring.drop(lambda found: found.tick.batch >= 2)
    assert [number for number in range(1, 4) if ring.get(number)] == [1]
    assert ring.bytes == 10
