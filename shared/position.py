"""Where a client is in the stream of changes: the SSE `id`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import PositionError

_FORM = re.compile(r"(?:([1-9][0-9]{0,8})\.)?(0|[1-9][0-9]{0,17})(?:-(0|[1-9][0-9]{0,8}))?")

WHOLE = (1 << 31) - 1
"""The index of a position after the last change of its batch."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A client that sends this position has everything up to and including it.

    Positions of one epoch are ordered. `index` is `WHOLE` after the whole batch.
    """

    epoch: int
    batch: int
    index: int = WHOLE

    def __str__(self) -> str:
        """Write the SSE id; the first epoch, and the index of a whole batch, are left out."""
        epoch = "" if self.epoch == 1 else f"{self.epoch}."
        index = "" if self.index == WHOLE else f"-{self.index}"
        return f"{epoch}{self.batch}{index}"


def parse_position(text: str) -> Position:
    """Read an SSE id that a client sent back; raise `PositionError` if it is none."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise PositionError
    epoch, batch, index = match.groups()
    return Position(int(epoch or 1), int(batch), WHOLE if index is None else int(index))
