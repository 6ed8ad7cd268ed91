"""How many streams there may be."""

from __future__ import annotations

from collections import Counter

from gateway.errors import ConnectionLimitError


class StreamLimits:
    """Counts open streams, in total and per user; anonymous ones only in total."""

    def __init__(self, *, most: int, most_per_user: int) -> None:
        self._most = most
        self._most_per_user = most_per_user
        self._users: Counter[str] = Counter()
        self._total = 0

    @property
    def total(self) -> int:
        """How many streams are open."""
        return self._total

    def enter(self, user_id: str) -> None:
        """Count a stream, or raise `ConnectionLimitError`."""
        if self._total >= self._most:
            raise ConnectionLimitError
        if user_id and self._users[user_id] >= self._most_per_user:
            raise ConnectionLimitError
        self._total += 1
        if user_id:
            self._users[user_id] += 1

    def exit(self, user_id: str) -> None:
        """Uncount a stream that entered."""
        self._total -= 1
        if user_id:
            self._users[user_id] -= 1
            if self._users[user_id] <= 0:
                del self._users[user_id]
