"""Shows the changes on the bus, for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from redis import Redis
from redis.exceptions import RedisError

from shared.change import decode_table_message
from shared.channels import ROOT, Channels
from shared.errors import BusMessageError, OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST: Final = 20
_WIDTH: Final = 160


class ChangeWatch:
    """Follows the changes of all tables, as the relay publishes them.

    Raises `OperatorError` if no server answers at this URL.
    """

    def __init__(self, url: str) -> None:
        self._redis = cast("Any", Redis.from_url(url))  # its pubsub has no types
        self._pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            self._pubsub.psubscribe(Channels(f"{ROOT}:*").table("*"))
        except RedisError as error:
            raise OperatorError(f"Valkey refuses the connection: {error}") from None

    def read(self, seconds: float) -> Iterator[str]:
        """Wait this long for a message, and yield a line for each of its changes."""
        try:
            message = self._pubsub.get_message(timeout=seconds)
        except RedisError:
            return  # the stack itself reports that Valkey has ended
        if message is None:
            return
        try:
            content = decode_table_message(message["data"]).content
        except BusMessageError:
            return  # signed, or not ours
        for change in content.changes[:_MOST]:
            image = (change.new_image or change.old_image or b"").decode(errors="replace")
            shown = image if len(image) <= _WIDTH else image[:_WIDTH] + "..."
            yield f"{change.op.name.lower()} {content.table} {shown}"
        if content.changes[_MOST:]:
            yield f"and {len(content.changes) - _MOST} more of {content.table}"

    def close(self) -> None:
        """Close the connection."""
        self._pubsub.close()
        self._redis.close()
