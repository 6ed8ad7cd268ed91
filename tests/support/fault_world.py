"""The small world on which every fault is tried: three tables, three kinds of policies, seven
users.

It decides without Postgres who may see what, so that the product is not judged by its own means.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

TABLES: Final = ("drafts", "posts", "notes")
ROOMS: Final = (1, 2, 3)
USERS: Final = tuple(str(uuid.uuid5(uuid.NAMESPACE_DNS, f"user {n}")) for n in range(6))
MEMBERS: Final = {room: frozenset(USERS[room - 1 : room + 1]) for room in ROOMS}
HOT_ROWS: Final = (1, 2, 3)
"""Rows of `posts` that every user sees and all writers update."""

CAPTURED: Final = ",".join(f"public.{table}" for table in TABLES)

SQL: Final = (
    "".join(
        f"""
        CREATE TABLE {table} (id bigint PRIMARY KEY, author uuid, published boolean, room int,
                              version int NOT NULL, stamp bigint NOT NULL, body text);
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON {table} TO ayb_authenticated;
        """
        for table in TABLES
    )
    + """
    CREATE TABLE members (room int, member uuid, PRIMARY KEY (room, member));
    GRANT SELECT ON members TO ayb_authenticated;
    CREATE TABLE written (tx bigint PRIMARY KEY);
    CREATE POLICY author ON drafts USING (author = current_setting('ayb.user_id')::uuid);
    CREATE POLICY readers ON posts
        USING (published OR author = current_setting('ayb.user_id')::uuid);
    CREATE POLICY members ON notes USING (EXISTS (
        SELECT FROM members m
        WHERE m.room = notes.room AND m.member = current_setting('ayb.user_id')::uuid));
    """
    + "".join(
        f"INSERT INTO members VALUES ({room}, '{member}');\n"
        for room, members in MEMBERS.items()
        for member in sorted(members)
    )
    + "".join(
        f"INSERT INTO posts VALUES ({row}, NULL, true, 1, 0, -{row}, 'hot');\n" for row in HOT_ROWS
    )
)

Told = tuple[str, str, int, int]
"""An event as a client identifies it: table, action, id, and the stamp (0 for a delete)."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row after one change; `stamp` identifies the change."""

    table: str
    id: int
    author: str
    published: bool
    room: int
    stamp: int

    def is_visible_to(self, user: str) -> bool:
        """Whether the policies show it."""
        match self.table:
            case "drafts":
                return self.author == user
            case "posts":
                return self.published or self.author == user
            case _:
                return user in MEMBERS[self.room]


@dataclass(frozen=True, slots=True)
class Change:
    """One change, with the row after it (for a delete, before it)."""

    action: str
    row: Row

    @property
    def told(self) -> Told:
        """The name that clients use."""
        stamp = 0 if self.action == "delete" else self.row.stamp
        return (self.row.table, self.action, self.row.id, stamp)

    def is_told_to(self, user: str, tables: frozenset[str]) -> bool:
        """Whether a subscriber gets it; a delete goes to everyone, with the key."""
        if self.row.table not in tables:
            return False
        return self.action == "delete" or self.row.is_visible_to(user)
