"""What a stream request asks for, once everything about it has been checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus
from weakref import WeakValueDictionary

from gateway.errors import RequestTooLongError
from gateway.streams.subscription import Subscription
from shared.errors import PositionError
from shared.position import Position, parse_position

if TYPE_CHECKING:
    from gateway.tables.catalog import Table
    from gateway.web.authentication import Identity

_MOST_QUERY_BYTES: Final = 48 * 1024
_MOST_PARAMETERS: Final = 50


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A request that may become a stream."""

    identity: Identity
    tables: tuple[Table, ...]
    leave: bool
    last_event_id: str | None
    """The position as the client sent it, not yet parsed."""

    @property
    def user_id(self) -> str:
        """The user whose streams are limited together, or the empty string."""
        claims = self.identity.claims
        return "" if claims is None else claims.user_id

    @property
    def expires_at(self) -> float | None:
        """When the token expires, in Unix seconds; None without a token."""
        claims = self.identity.claims
        return None if claims is None else claims.expires_at

    @property
    def subscription(self) -> Subscription:
        """The tables with their OIDs, one and the same object for the same ones."""
        return _subscription(self.tables)

    @property
    def position(self) -> Position | None:
        """The position to continue after; None if none was sent, or it cannot be parsed."""
        if self.last_event_id is None:
            return None
        try:
            return parse_position(self.last_event_id)
        except PositionError:
            return None


_subscriptions: Final[WeakValueDictionary[tuple[Table, ...], Subscription]] = WeakValueDictionary()


def _subscription(tables: tuple[Table, ...]) -> Subscription:
    """Return the subscription to tables that open streams share.

    Many streams share few sets of tables, and the dictionary of each takes 300 bytes.
    """
    subscription = _subscriptions.get(tables)
    if subscription is None:
        subscription = Subscription({table.name: table.relid for table in tables})
        _subscriptions[tables] = subscription
    return subscription


def parse_query(query_string: bytes) -> dict[str, str]:
    """Read the parameters of a stream request.

    They are what `urllib.parse.parse_qsl` reads, which takes three times as long. Of a parameter
    that is repeated the first value counts, except that several `tables` make one list. Raises
    `RequestTooLongError`.
    """
    if len(query_string) > _MOST_QUERY_BYTES or query_string.count(b"&") >= _MOST_PARAMETERS:
        raise RequestTooLongError
    query: dict[str, str] = {}
    for pair in query_string.decode("latin-1").split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        name, value = unquote_plus(name), unquote_plus(value)
        if name == "tables" and name in query:
            query[name] += "," + value
        else:
            query.setdefault(name, value)
    return query
