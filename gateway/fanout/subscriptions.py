"""Which connections subscribe to which tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.visibility.cohorts import Audience

if TYPE_CHECKING:
    from gateway.streams.connection import Connection

OPEN_ROLE = ""
"""Stands for the role while authentication is off: everything is delivered."""


class TableSubscribers:
    """The connections on one table, by role.

    `relid` is the OID last seen under this name: a renamed table is followed until another takes
    the name.
    """

    def __init__(self, table: str, relid: int) -> None:
        self.table = table
        self.relid = relid
        self.audiences: dict[str, Audience[Connection]] = {}
        self._leaves = 0

    @property
    def wants_leaves(self) -> bool:
        """Whether any connection asked for updates that take a row out of its sight."""
        return self._leaves > 0

    def add(self, connection: Connection) -> None:
        """Add a connection."""
        role = OPEN_ROLE if connection.role is None else connection.role
        audience = self.audiences.get(role)
        if audience is None:
            audience = self.audiences[role] = Audience(role)
        audience.add(connection, connection.settings)
        self._leaves += connection.leave

    def discard(self, connection: Connection) -> None:
        """Remove a connection that was added."""
        role = OPEN_ROLE if connection.role is None else connection.role
        audience = self.audiences[role]
        audience.discard(connection)
        if not audience:
            del self.audiences[role]
        self._leaves -= connection.leave


class Subscriptions:
    """The subscribers of every table that has any."""

    def __init__(self) -> None:
        self._subscribers: dict[str, TableSubscribers] = {}
        self._by_relid: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._subscribers)

    def __contains__(self, table: str) -> bool:
        return table in self._subscribers

    @property
    def tables(self) -> list[str]:
        """The names of the tables, as `schema.table`."""
        return list(self._subscribers)

    @property
    def relids(self) -> list[int]:
        """The OIDs last seen of the tables."""
        return list(self._by_relid)

    def wants(self, table: str, relid: int) -> bool:
        """Whether changes of a table have subscribers here."""
        return table in self._subscribers or relid in self._by_relid

    def of(self, table: str, relid: int) -> list[TableSubscribers]:
        """Return the subscribers of a table, and remember its present OID."""
        named = self._subscribers.get(table)
        if named is not None:
            self._remember(named, relid)
        return [self._subscribers[name] for name in self._by_relid.get(relid, ())]

    def add(self, connection: Connection) -> None:
        """Subscribe a connection to its tables."""
        for table, relid in connection.subscription.relids.items():
            subscribers = self._subscribers.get(table)
            if subscribers is None:
                subscribers = self._subscribers[table] = TableSubscribers(table, relid)
                self._by_relid.setdefault(relid, set()).add(table)
            self._remember(subscribers, relid)
            subscribers.add(connection)

    def discard(self, connection: Connection) -> None:
        """Remove a connection from all its tables."""
        for table in connection.tables:
            subscribers = self._subscribers[table]
            subscribers.discard(connection)
            if not subscribers.audiences:
                del self._subscribers[table]
                self._forget(subscribers)

    def _remember(self, subscribers: TableSubscribers, relid: int) -> None:
        if subscribers.relid != relid:
            self._forget(subscribers)
            subscribers.relid = relid
            self._by_relid.setdefault(relid, set()).add(subscribers.table)

    def _forget(self, subscribers: TableSubscribers) -> None:
        names = self._by_relid[subscribers.relid]
        names.discard(subscribers.table)
        if not names:
            del self._by_relid[subscribers.relid]
