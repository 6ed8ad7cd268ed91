"""How far what this gateway can read is behind what the relay has written.

Three measures, of which the greatest counts:

    silence       how long the read database has not shown anything new from the relay. The leader
                  renews its row every second, so this grows while nothing comes, whatever the
                  cause. Measured on this process's clock alone.
    lack          for how long a batch has been announced by ticks that the read database does not
                  have. Measured on this process's clock alone.
    age           how old the relay's newest sign of life is by the clock of the read database. The
                  relay's row has the primary's clock, so a difference between the two counts as
                  age: what may be one is subtracted. Only this shows a replica that is late by the
                  same time throughout, while no ticks come.

A number that ticks announce is not trusted (see `gateway.fanout.backlog`), so the lack ends when
the relay's present tick names a batch that the read database has.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

CLOCK_SECONDS: Final = 2.0
"""How far the clocks of two database servers may differ."""

TICK_SECONDS: Final = 2.5
"""The relay repeats its tick every second; after this long without one there are none."""

_RIVAL_SECONDS: Final = 3.0
_ANNOUNCED_APART_SECONDS: Final = 0.1
_MOST_ANNOUNCED: Final = 600

Mark = tuple[int, int]
"""Epoch and number of a batch."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the read database showed when it was asked, at `at` on this process's monotonic clock.

    `newest` is the newest batch. `heard_at` is the relay's last sign of life on the primary's
    clock, `clock` the read database's own, both in Unix seconds. `unreplayed_bytes` of write-ahead
    log have been received and not replayed. `commit_at` is the primary's time of the last commit
    replayed.
    """

    at: float
    newest: Mark
    heard_at: float | None
    clock: float
    is_standby: bool
    is_paused: bool
    unreplayed_bytes: int
    commit_at: float | None


class Staleness:
    """What pulses and ticks say about the way from the relay to the read database."""

    def __init__(self, *, now: float) -> None:
        self._pulse: Pulse | None = None
        self._advanced_at = now
        self._committed_at = now
        self._error: str | None = None
        self._announced: deque[tuple[Mark, float]] = deque()
        self._ticked_at = float("-inf")
        self._leading: tuple[int, float, float] | None = None
        self._rival: tuple[int, float] | None = None

    @property
    def newest(self) -> Mark:
        """The newest batch that the read database showed."""
        return (0, 0) if self._pulse is None else self._pulse.newest

    def on_pulse(self, pulse: Pulse) -> None:
        """Take in what the read database showed."""
        before = self._pulse
        if before is None or _sign(before) != _sign(pulse):
            self._advanced_at = pulse.at
        if before is None or before.commit_at != pulse.commit_at:
            self._committed_at = pulse.at
        self._pulse = pulse
        self._error = None
        self._confirm()

    def on_failure(self, error: str) -> None:
        """Take in that the read database could not be asked."""
        self._error = error

    def on_tick(self, epoch: int, batch: int, now: float) -> None:
        """Take in a batch that a tick announced."""
        mark = (epoch, batch)
        self._ticked_at = now
        self._watch_epochs(epoch, now)
        if mark <= self.newest:
            self._announced.clear()
        elif not self._announced or (
            len(self._announced) < _MOST_ANNOUNCED
            and mark > self._announced[-1][0]
            and now - self._announced[-1][1] > _ANNOUNCED_APART_SECONDS
        ):
            self._announced.append((mark, now))

    def seconds(self, now: float) -> float:
        """How stale the read database is, in seconds."""
        return max(self._silence(now), self._lack(now), self._age(now))

    def reason(self, now: float) -> str:
        """What explains the staleness best, and what to look at."""
        pulse = self._pulse
        if self._error is not None or pulse is None:
            return f"the read database cannot be asked: {self._error or 'not asked yet'}"
        if pulse.is_paused:
            return "replay is paused on the read replica: pg_wal_replay_resume() continues it"
        has_ticks = now - self._ticked_at < TICK_SECONDS
        lacks = has_ticks and self._lack(now) > 0
        if pulse.unreplayed_bytes > 0 and (lacks or self._age(now) > self._silence(now)):
            return "the read replica lags: it has received changes and not replayed them"
        if has_ticks:
            return self._why_ticks_alone(pulse, lacks=lacks)
        if not pulse.is_standby or now - self._committed_at < self._silence(now) / 2:
            return "no relay has given a sign of life: none leads, or it cannot write"
        return (
            "nothing reaches the read replica: no relay leads, or replication from the primary has "
            "stopped"
        )

    def _why_ticks_alone(self, pulse: Pulse, *, lacks: bool) -> str:
        if lacks and self._announced[-1][0][0] > pulse.newest[0]:
            return (
                "ticks are of a newer epoch, which the read database does not have: it follows "
                "another primary than the relay, or its replication has stopped"
            )
        return (
            "ticks arrive, but nothing of the relay reaches the read database: it follows another "
            "primary than the relay, or its replication has stopped"
        )

    def rivals(self, now: float) -> tuple[int, int] | None:
        """The epochs of two relays that both send ticks, the older first; None for one relay."""
        if self._rival is None or self._leading is None or now - self._rival[1] > _RIVAL_SECONDS:
            return None
        return self._rival[0], self._leading[0]

    def _silence(self, now: float) -> float:
        return now - self._advanced_at

    def _lack(self, now: float) -> float:
        return now - self._announced[0][1] if self._announced else 0.0

    def _age(self, now: float) -> float:
        pulse = self._pulse
        if pulse is None or pulse.heard_at is None:
            return 0.0
        age = pulse.clock - pulse.heard_at + (now - pulse.at)
        return age if age > CLOCK_SECONDS + self._silence(now) else 0.0

    def _confirm(self) -> None:
        while self._announced and self._announced[0][0] <= self.newest:
            self._announced.popleft()

    def _watch_epochs(self, epoch: int, now: float) -> None:
        """Notice an older relay that goes on sending ticks after a newer one has begun to."""
        leading = self._leading
        if leading is None or epoch > leading[0] or now - leading[2] > _RIVAL_SECONDS:
            self._leading = (epoch, now, now)
        elif epoch == leading[0]:
            self._leading = (epoch, leading[1], now)
        elif now - leading[1] > _RIVAL_SECONDS / 2:
            self._rival = (epoch, now)


def _sign(pulse: Pulse) -> tuple[Mark, float | None]:
    return pulse.newest, pulse.heard_at
