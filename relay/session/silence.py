"""How long the leader has given no sign of life, as a standby sees it.

Renewals of the lead have the server's wall clock in them, which an administrator or NTP may set. So
times are never compared with it: what counts is that they stay the same, and for how long is
measured here, by a clock that only goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class LeaderSign:
    """The leader as the server knows it: its session, its last renewal, and its last statement.

    `idle_since` is None while the session is at work, or may not be seen.
    """

    pid: int
    heard_at: datetime
    idle_since: datetime | None


class Silence:
    """The last sign of the leader, and when it was first seen; times are monotonic seconds."""

    def __init__(self) -> None:
        self._sign: LeaderSign | None = None
        self._since = 0.0

    def observe(self, sign: LeaderSign | None, now: float) -> float:
        """Take in what was read just now, None without a leader; return the seconds of silence.

        There is none while the leader's session is at work.
        """
        if sign is None or sign.idle_since is None or sign != self._sign:
            self._sign = sign
            self._since = now
        return now - self._since
