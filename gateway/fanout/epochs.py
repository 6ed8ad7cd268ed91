"""Epochs: which batch numbers are still good after crashes of Postgres.

Batch numbers go on over epochs. A crash may take the newest numbers back; the next epoch then gives
them out again, for other batches. So a number means nothing without its epoch, and an epoch's
batches end where a later epoch's begin:

    epoch 1   ... 8  9  10  11  12  13      11 to 13 were taken back,
    epoch 7                 11  12  13      here they stand for other batches,
    epoch 9                             14 ...

`Epochs` is what the outbox says about itself at one moment. It never changes; whoever finds that
it was replaced by another one looks again at what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from shared.position import WHOLE, Position

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_SECOND: Final = 1_735_689_600
"""2025 in Unix seconds: the relay names later epochs, and numbers the first batch of a database, by
the time since then (see docs/decisions/0004-positions.md)."""

_MOST_BATCHES_A_SECOND: Final = 1_000
_CLOCK_SECONDS: Final = 86_400
"""How far two clocks may differ."""

ResumeError = Literal["expired", "unknown"]
"""Why a client cannot continue after a position: what follows is no longer kept, or the position
is not one of this history."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """The first batch of each epoch, in the order of the epochs."""

    starts: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, first_batches: Mapping[int, int]) -> Epochs:
        """Make them from the first batch number of each epoch."""
        return cls(tuple(sorted(first_batches.items())))

    @property
    def current(self) -> int:
        """The epoch that numbers are given out in now; 0 before the first."""
        return self.starts[-1][0] if self.starts else 0

    @property
    def current_start(self) -> int:
        """The first batch of the current epoch."""
        return self.starts[-1][1] if self.starts else 1

    def is_earlier_than(self, other: Epochs) -> bool:
        """Whether these are an earlier state of the same history."""
        return self != other and other.starts[: len(self.starts)] == self.starts

    def epoch_of(self, batch: int) -> int:
        """The epoch in which a batch number was given out for good."""
        return max((epoch for epoch, first in self.starts if first <= batch), default=1)

    def holds(self, epoch: int, batch: int) -> bool:
        """Whether a number that was given out in an epoch was not taken back."""
        return self.epoch_of(batch) == epoch

    def last_before(self, epoch: int) -> int | None:
        """The last batch that the end of an epoch left standing; None if it has not ended."""
        later = [first for other, first in self.starts if other > epoch]
        return min(later) - 1 if later else None

    def surviving(self, position: Position, newest: int) -> Position:
        """The last whole batch up to a position that was not taken back.

        `newest` is the newest batch there is.
        """
        last = self.last_before(position.epoch)
        batch = min(position.batch, newest if last is None else min(last, newest))
        return Position(self.epoch_of(batch), batch)

    def may_come(self, position: Position, *, newest: int, horizon: int, now: float) -> bool:
        """Whether a position lies ahead, and a relay may have given it out by now.

        `now` is in Unix seconds. It may be that of a gateway that has seen more than this one.
        """
        seconds = now - _FIRST_SECOND + _CLOCK_SECONDS
        return (
            (position.epoch, position.batch) > (self.current, newest)
            and position.batch >= horizon
            and position.batch <= seconds * _MOST_BATCHES_A_SECOND
            and position.epoch <= seconds
        )

    def resume_error(self, position: Position, *, newest: int, horizon: int) -> ResumeError | None:
        """Why the changes after a position cannot be had, or None if they can.

        `horizon` is the oldest batch whose changes are kept.
        """
        if position.batch > newest or not self.holds(position.epoch, position.batch):
            return "unknown"
        needed = position.batch if position.index != WHOLE else position.batch + 1
        return "expired" if needed < horizon else None
