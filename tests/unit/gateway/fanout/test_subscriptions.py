from __future__ import annotations

from typing import Any

from gateway.fanout.subscriptions import Roster
from gateway.streams.connection import Connection


async def _send(_message: Any) -> None: ...


def connection(*tables: str, role: str | None = "r", leave: bool = False) -> Connection:
    return Connection(
        send=_send,
        spawn=lambda work, name: work.close(),
        on_close=lambda: None,
        on_overflow=lambda _: None,
        tables=tables,
        role=role,
        settings=("u", "", "", ""),
        user_id="u",
        address="",
        expires_at=None,
        leave=leave,
        most_kept_bytes=1,
    )


def test_seats_are_there_as_long_as_somebody_sits() -> None:
    """A table is wanted from its first connection to its last."""
    roster = Roster()
    first, second = connection("public.a", "public.b"), connection("public.a")
    roster.add(first, {"public.a": 1, "public.b": 2})
    roster.add(second, {"public.a": 1})
    roster.discard(first)
    assert roster.tables == ["public.a"]
    assert roster.wants("public.a", 1)
    assert not roster.wants("public.b", 2)
    roster.discard(second)
    assert len(roster) == 0
    assert roster.relids == []


def test_a_renamed_table_is_followed_until_another_takes_its_name() -> None:
    """Changes of a table reach those who know it by its old name, but not past a successor."""
    roster = Roster()
    reader = connection("public.a")
    roster.add(reader, {"public.a": 1})
    assert [seats.table for seats in roster.of("public.renamed", 1)] == ["public.a"]
    assert [seats.table for seats in roster.of("public.a", 7)] == ["public.a"]
    assert roster.of("public.renamed", 1) == []
    assert not roster.wants("public.renamed", 1)


def test_audiences_are_by_role() -> None:
    """Connections of different roles are asked about apart; open ones have no role."""
    roster = Roster()
    for role in ("r", "s", None):
        roster.add(connection("public.a", role=role), {"public.a": 1})
    (seats,) = roster.of("public.a", 1)
    assert set(seats.audiences) == {"r", "s", ""}


def test_old_images_are_wanted_while_somebody_asks_for_leaves() -> None:
    """`leave=true` of one connection is counted in and out."""
    roster = Roster()
    leaver = connection("public.a", leave=True)
    roster.add(leaver, {"public.a": 1})
    roster.add(connection("public.a"), {"public.a": 1})
    (seats,) = roster.of("public.a", 1)
    assert seats.wants_leaves
    roster.discard(leaver)
    assert not seats.wants_leaves
