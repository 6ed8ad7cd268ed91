"""Which connections want which tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.visibility.cohorts import Audience

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.streams.connection import Connection

OPEN_ROLE = ""
"""Stands for the role where authentication is off: everything is delivered."""


class Seats:
    """The connections on one table, by role.

    `relid` is the table last known under this name: a renamed table is followed until another one
    takes the name.
    """

    def __init__(self, table: str, relid: int) -> None:
        self.table = table
        self.relid = relid
        self.audiences: dict[str, Audience[Connection]] = {}
        self._leaves = 0

    @property
    def wants_leaves(self) -> bool:
        """Whether somebody asked for updates that take a row out of sight."""
        return self._leaves > 0

    def add(self, connection: Connection) -> None:
        """Seat a connection."""
        role = OPEN_ROLE if connection.role is None else connection.role
        audience = self.audiences.get(role)
        if audience is None:
            audience = self.audiences[role] = Audience(role)
        audience.add(connection, connection.settings)
        self._leaves += connection.leave

    def discard(self, connection: Connection) -> None:
        """Take a connection away that was added."""
        role = OPEN_ROLE if connection.role is None else connection.role
        audience = self.audiences[role]
        audience.discard(connection)
        if not audience:
            del self.audiences[role]
        self._leaves -= connection.leave

    def members(self) -> Iterator[Connection]:
        """Go through all connections on the table."""
        for audience in self.audiences.values():
            for group in audience.grouped(()).members:
                yield from group


class Roster:
    """The seats of every table that somebody wants."""

    def __init__(self) -> None:
        self._seats: dict[str, Seats] = {}
        self._by_relid: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def __contains__(self, table: str) -> bool:
        return table in self._seats

    @property
    def tables(self) -> list[str]:
        """The wanted tables' names, as `schema.table`."""
        return list(self._seats)

    @property
    def relids(self) -> list[int]:
        """The oids last known of the wanted tables."""
        return list(self._by_relid)

    def relid(self, table: str) -> int | None:
        """Tell which table is known under a name."""
        seats = self._seats.get(table)
        return None if seats is None else seats.relid

    def wants(self, table: str, relid: int) -> bool:
        """Tell whether changes of a table are for anybody here."""
        return table in self._seats or relid in self._by_relid

    def of(self, table: str, relid: int) -> list[Seats]:
        """Find the seats that a table's changes are for, and learn the table's present oid."""
        named = self._seats.get(table)
        if named is not None:
            self._learn(named, relid)
        return [self._seats[name] for name in self._by_relid.get(relid, ())]

    def add(self, connection: Connection, relids: dict[str, int]) -> None:
        """Seat a connection on its tables; `relids` are the tables' oids by name."""
        for table in connection.tables:
            seats = self._seats.get(table)
            if seats is None:
                seats = self._seats[table] = Seats(table, relids[table])
                self._by_relid.setdefault(relids[table], set()).add(table)
            self._learn(seats, relids[table])
            seats.add(connection)

    def discard(self, connection: Connection) -> None:
        """Take a connection off all its tables."""
        for table in connection.tables:
            seats = self._seats[table]
            seats.discard(connection)
            if not seats.audiences:
                del self._seats[table]
                self._forget(seats)

    def seats(self) -> Iterable[Seats]:
        """Go through the seats of all tables."""
        return self._seats.values()

    def _learn(self, seats: Seats, relid: int) -> None:
        if seats.relid != relid:
            self._forget(seats)
            seats.relid = relid
            self._by_relid.setdefault(relid, set()).add(seats.table)

    def _forget(self, seats: Seats) -> None:
        names = self._by_relid[seats.relid]
        names.discard(seats.table)
        if not names:
            del self._by_relid[seats.relid]
