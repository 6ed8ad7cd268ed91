"""gateway.fanout.recent_read: the last read of the outbox, kept for a moment."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fanout.recent_read import KEPT_SECONDS, RecentRead
from shared.change import Batch

POSTS: dict[str, Any] = {"tables": ["public.posts"], "relids": [1]}
BATCHES = [Batch(1, number, 0, 0.0, ()) for number in (4, 5, 6)]


@pytest.fixture
def recent():
    kept = RecentRead()
    kept.keep(BATCHES, **POSTS, now=100.0)
    return kept


@pytest.mark.parametrize(
    ("after", "upto", "found"),
    [
        (3, 6, [4, 5, 6]),
        (3, 5, [4, 5]),
        (4, 9, [5, 6]),
        (6, 9, []),
        (2, 6, []),
        (3, 3, []),
    ],
)
def test_what_follows_without_a_hole_is_read(recent, after, upto, found):
    """From the batch right after the given one, and no further than asked."""
    assert [batch.id for batch in recent.read(after, upto, **POSTS, now=100.0)] == found


@pytest.mark.parametrize(
    ("wanted", "is_found"),
    [
        (POSTS, True),
        ({"tables": [], "relids": []}, True),
        ({"tables": ["public.posts", "public.notes"], "relids": [1]}, False),
        ({"tables": ["public.posts"], "relids": [1, 2]}, False),
    ],
)
def test_only_for_tables_that_were_read(recent, wanted, is_found):
    """The content of other tables is missing in it."""
    assert bool(recent.read(3, 6, **wanted, now=100.0)) == is_found


def test_for_a_moment_only(recent):
    """After that it is read again; what is dropped is gone at once."""
    assert recent.read(3, 6, **POSTS, now=100.0 + KEPT_SECONDS / 2)
    assert not recent.read(3, 6, **POSTS, now=100.0 + KEPT_SECONDS)
    recent.drop()
    assert not recent.read(3, 6, **POSTS, now=100.0)


def test_nothing_is_kept_at_first():
    """A gateway that has read nothing has nothing."""
    assert RecentRead().read(0, 9, tables=[], relids=[], now=0.0) == []
