"""Events that wait because Postgres cannot be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from shared.errors import ReplicaLagsError


@dataclass(frozen=True, slots=True)
class Held:
    """Why events wait, and since when on the monotonic clock, in seconds.

    `is_lag`: the read replica answers, but it has not replayed the events yet.
    """

    reason: str
    is_lag: bool
    since: float

    @classmethod
    def by(cls, error: BaseException, before: Held | None, now: float) -> Self:
        """Describe a wait that may have begun before, for another reason."""
        since = now if before is None else before.since
        return cls(str(error), isinstance(error, ReplicaLagsError), since)
