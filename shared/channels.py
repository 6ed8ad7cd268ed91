"""The names of the Redis channels.

Redis has one space of channels for all its numbered databases, so deployments that share a server
are kept apart by a prefix. By default it is made from the identity of the log's history (see
`shared.outbox.LogState`), which the relay and its gateways both read from the outbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ROOT: Final = "ayb:realtime"


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of one deployment."""

    prefix: str

    @classmethod
    def of(cls, history: str, prefix: str | None = None) -> Channels:
        """Return the channels under the configured prefix, or under one made from the history."""
        return cls(prefix or f"{ROOT}:{history}")

    @property
    def tick(self) -> str:
        """The channel of ticks."""
        return f"{self.prefix}:tick"

    @property
    def relays(self) -> str:
        """The channel on which a relay that leads says so to others."""
        return f"{self.prefix}:relays"

    def table(self, table: str) -> str:
        """Return the channel of a table, named as `schema.table`."""
        return f"{self.prefix}:table:{table}"
