"""gateway.fanout.pending_tables: what waits for its tick."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec

from gateway.fanout.pending_tables import MOST_BATCHES, PendingTables
from shared.change import FORMAT, Change, Op, TableChanges, TableMessage, encode

HISTORY = "0123456789abcdef"


def message(batch: int, relid: int = 1, *, epoch: int = 1, changes: int = 1) -> TableMessage:
    made = tuple(Change(n, n, Op.CREATE, msgspec.Raw(b"{}")) for n in range(changes))
    return TableMessage(
        FORMAT, HISTORY, epoch, batch, TableChanges("public.t", relid, ("id",), made)
    )


def test_a_tick_takes_what_arrived_of_its_batch() -> None:
    """Tables of one batch are kept together, apart from the same number of another epoch."""
    pending = PendingTables(most_bytes=100_000)
    pending.add(message(1, 7), 10)
    pending.add(message(1, 8), 10)
    pending.add(message(1, 7, epoch=2), 10)
    tables, cost = pending.take((1, 1))
    assert sorted(tables) == [7, 8]
    assert cost > 20
    assert pending.take((1, 1)) == ({}, 0)
    assert sorted(pending.take((2, 1))[0]) == [7]
    assert pending.bytes == 0


def test_a_message_that_comes_twice_counts_once() -> None:
    """The later message of a table replaces the earlier one, and its bytes."""
    pending = PendingTables(most_bytes=100_000)
    pending.add(message(1), 50_000)
    pending.add(message(1, changes=2), 10)
    assert len(pending.take((1, 1))[0][1].changes) == 2
    assert pending.bytes == 0


def test_the_batches_that_began_first_are_given_up() -> None:
    """Past the bound in bytes or batches the oldest batches go, even the only one there is."""
    pending = PendingTables(most_bytes=100_000)
    for number in range(MOST_BATCHES + 5):
        pending.add(message(number), 10)
    assert pending.take((1, 4)) == ({}, 0)
    assert pending.take((1, 5))[0]
    pending.add(message(200), 90_000)
    pending.add(message(201), 90_000)
    assert pending.take((1, 200)) == ({}, 0)
    pending.add(message(201, 2), 90_000)
    assert pending.take((1, 201)) == ({}, 0)
    assert pending.bytes == 0


def test_clear() -> None:
    """Nothing is left after a lost connection."""
    pending = PendingTables(most_bytes=100_000)
    pending.add(message(1), 10)
    pending.clear()
    assert pending.bytes == 0
    assert pending.take((1, 1)) == ({}, 0)


MEASURE = """
import json, sys
from gateway.fanout.pending_tables import PendingTables
from shared.change import decode_table_message
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
text = bytes.fromhex(sys.stdin.read())
pending = PendingTables(most_bytes=16 * 2**20)
before = rss()
most = 0
for relid in range(1, 601):
    data = text.replace(b"4242424242", str(4_000_000_000 + relid % 200_000_000).encode())
    pending.add(decode_table_message(data), len(data))
    most = max(most, pending.bytes)
print(json.dumps([rss() - before, most]))
"""


def test_the_bound_is_in_bytes_of_the_process() -> None:
    """600 messages of 1 MB under one number cost the process little more than the bound."""
    for image, changes in (("x" * 1_000_000, 1), ("x" * 100, 5_000)):
        row = msgspec.Raw(json.dumps({"id": 1, "text": image}).encode())
        made = tuple(Change(n, n, Op.CREATE, row) for n in range(changes))
        content = TableChanges("public.t", 4_242_424_242, ("id",), made)
        text = encode(TableMessage(FORMAT, HISTORY, 1, 1, content))
        done = subprocess.run(
            [sys.executable, "-c", MEASURE],
            input=text.hex(), capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        grown, most = json.loads(done.stdout)
        assert most <= 16 * 2**20
        assert grown < 24 * 2**20
