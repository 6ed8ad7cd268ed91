"""How many streams there may be."""

from __future__ import annotations

from collections import Counter

from gateway.client_network import network_of
from gateway.errors import ConnectionLimitError


class StreamLimits:
    """Counts open streams, in total, per user, and per address where that is wanted.

    Anonymous ones, and those of tokens without a user, count in total and for their address.
    """

    def __init__(
        self, *, most: int, most_per_user: int, most_per_address: int | None = None
    ) -> None:
        self._most = most
        self._most_per_user = most_per_user
        self._most_per_address = most_per_address
        self._users: Counter[str] = Counter()
        self._networks: Counter[str] = Counter()
        self._total = 0

    @property
    def total(self) -> int:
        """How many streams are open."""
        return self._total

    def enter(self, user_id: str, address: str) -> None:
        """Count a stream, or raise `ConnectionLimitError`."""
        network = self._network_of(address)
        if self._total >= self._most:
            raise ConnectionLimitError
        if user_id and self._users[user_id] >= self._most_per_user:
            raise ConnectionLimitError
        if network and self._networks[network] >= (self._most_per_address or self._most):
            raise ConnectionLimitError
        self._total += 1
        if user_id:
            self._users[user_id] += 1
        if network:
            self._networks[network] += 1

    def exit(self, user_id: str, address: str) -> None:
        """Uncount a stream that entered."""
        self._total -= 1
        if user_id:
            _uncount(self._users, user_id)
        network = self._network_of(address)
        if network:
            _uncount(self._networks, network)

    def _network_of(self, address: str) -> str:
        return "" if self._most_per_address is None else network_of(address)


def _uncount(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
