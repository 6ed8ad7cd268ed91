"""Serving in turns: newcomers wait until those who were there before them are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class FairTurns(Generic[T]):
    """A turn's members are those waiting when it began; it ends when none of them waits any more.

    So each is served after one turn at the latest, however many come meanwhile.
    """

    def __init__(self) -> None:
        self._members: frozenset[T] = frozenset()

    def choose(self, waiting: Sequence[T]) -> list[T]:
        """Choose which of those waiting now are served now."""
        members = [one for one in waiting if one in self._members]
        if members:
            return members
        self._members = frozenset(waiting)
        return list(waiting)
