from __future__ import annotations

from typing import Any

from gateway.fanout.subscriptions import Subscriptions
from gateway.streams.connection import Connection
from gateway.streams.subscription import Subscription

RELIDS = {"public.a": 1, "public.b": 2, "public.renamed": 1}


async def _send(_message: Any) -> None: ...


def connection(*tables: str, role: str | None = "r", leave: bool = False) -> Connection:
    return Connection(
        send=_send,
        spawn=lambda work, name: work.close(),
        on_close=lambda: None,
        on_overflow=lambda _: None,
        subscription=Subscription({table: RELIDS[table] for table in tables}),
        role=role,
        settings=("u", "", "", ""),
        user_id="u",
        address="",
        expires_at=None,
        leave=leave,
        most_pending_bytes=1,
    )


def test_a_table_is_kept_while_it_has_subscribers() -> None:
    """A table is wanted from its first connection to its last."""
    subscriptions = Subscriptions()
    first, second = connection("public.a", "public.b"), connection("public.a")
    subscriptions.add(first)
    subscriptions.add(second)
    subscriptions.discard(first)
    assert subscriptions.tables == ["public.a"]
    assert subscriptions.wants("public.a", 1)
    assert not subscriptions.wants("public.b", 2)
    subscriptions.discard(second)
    assert len(subscriptions) == 0
    assert subscriptions.relids == []


def test_a_table_under_two_names() -> None:
    """A renamed table is one table; it is forgotten with the last of its names."""
    subscriptions = Subscriptions()
    old, new = connection("public.a"), connection("public.b")
    subscriptions.add(old)
    subscriptions.add(new)
    subscriptions.of("public.b", 1)
    assert {found.table for found in subscriptions.of("public.b", 1)} == {"public.a", "public.b"}
    subscriptions.discard(old)
    assert subscriptions.relids == [1]


def test_a_renamed_table_is_followed_until_another_takes_its_name() -> None:
    """Changes of a table reach those who know it by its old name, but not past a successor."""
    subscriptions = Subscriptions()
    reader = connection("public.a")
    subscriptions.add(reader)
    assert [found.table for found in subscriptions.of("public.renamed", 1)] == ["public.a"]
    assert [found.table for found in subscriptions.of("public.a", 7)] == ["public.a"]
    assert subscriptions.of("public.renamed", 1) == []
    assert not subscriptions.wants("public.renamed", 1)


def test_audiences_are_by_role() -> None:
    """Connections of different roles are asked about apart; open ones have no role."""
    subscriptions = Subscriptions()
    for role in ("r", "s", None):
        subscriptions.add(connection("public.a", role=role))
    (subscribers,) = subscriptions.of("public.a", 1)
    assert set(subscribers.audiences) == {"r", "s", ""}


def test_old_images_are_wanted_while_somebody_asks_for_leaves() -> None:
    """`leave=true` of one connection is counted in and out."""
    subscriptions = Subscriptions()
    leaver = connection("public.a", leave=True)
    subscriptions.add(leaver)
    subscriptions.add(connection("public.a"))
    (subscribers,) = subscriptions.of("public.a", 1)
    assert subscribers.wants_leaves
    subscriptions.discard(leaver)
    assert not subscribers.wants_leaves


def test_one_table_under_two_names() -> None:
    """A table subscribed to before and after it was renamed is wanted under both names, until the
    last connection of each has gone.
    """
    subscriptions = Subscriptions()
    before, after = connection("public.a"), connection("public.renamed")
    subscriptions.add(before)
    subscriptions.add(after)
    assert len(subscriptions.of("public.renamed", 1)) == 2
    subscriptions.discard(before)
    assert [found.table for found in subscriptions.of("public.renamed", 1)] == ["public.renamed"]
    assert subscriptions.wants("public.a", 1)
    subscriptions.discard(after)
    assert not subscriptions.wants("public.renamed", 1)
