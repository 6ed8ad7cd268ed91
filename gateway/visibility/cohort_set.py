"""Large sets of cohorts, in a bit each.

What a question answers is, for each image, the set of cohorts that see it. Tens of thousands of
cohorts and a thousand images make millions of pairs, and a pair takes about 50 bytes in a
`frozenset`. Here it takes a bit, whether it is in the set or not: 20,000 cohorts are 2.5 kB, not
half a megabyte. A small set among many cohorts stays a `frozenset`, which is smaller then, and
faster to go through: see `cohorts_from`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import compress
from typing import Any, Final

_FEWEST_BITS_EACH: Final = 32
"""The bits that a member may cost before a `frozenset` is better: it is faster to go through."""

_BITS: Final = bytes.maketrans(b"01", b"\0\1")


def cohorts_from(numbers: Iterable[int], count: int, most: int) -> Set[int]:
    """Make a set of `count` numbers, all below `most`, in the better of the two forms."""
    if count * _FEWEST_BITS_EACH < most:
        return frozenset(numbers)
    return CohortSet.of(numbers, most)


class CohortSet(Set[int]):
    """An immutable set of small numbers; equal to any set of the same ones."""

    __slots__ = ("_hashed", "bits")

    def __init__(self, bits: int = 0) -> None:
        """`bits` has the bit of each member set: 1 << member."""
        self.bits: Final = bits
        self._hashed: int | None = None

    @classmethod
    def of(cls, numbers: Iterable[int], most: int) -> CohortSet:
        """Make a set of numbers below `most`; raises `IndexError` for others."""
        digits = bytearray(b"0") * most
        for number in numbers:
            digits[-1 - number] = 49
        return cls(int(digits, 2) if digits else 0)

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> CohortSet:  # type: ignore[override]
        numbers = list(it)
        return cls.of(numbers, max(numbers, default=-1) + 1)

    @classmethod
    def _bits_of(cls, numbers: Set[Any]) -> int:
        of_bits = numbers if isinstance(numbers, CohortSet) else cls._from_iterable(numbers)
        return of_bits.bits

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number >= 0 and bool(self.bits >> number & 1)

    def __iter__(self) -> Iterator[int]:
        bits = f"{self.bits:b}".encode()[::-1].translate(_BITS)
        return compress(range(len(bits)), bits)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __and__(self, other: Set[Any]) -> Set[int]:
        if isinstance(other, CohortSet):
            return CohortSet(self.bits & other.bits)
        return frozenset(number for number in other if number in self)

    __rand__ = __and__

    def __or__(self, other: Set[Any]) -> Set[int]:
        return CohortSet(self.bits | self._bits_of(other))

    __ror__ = __or__

    def __sub__(self, other: Set[Any]) -> Set[int]:
        return CohortSet(self.bits & ~self._bits_of(other))

    def __rsub__(self, other: Set[Any]) -> Set[int]:
        return frozenset(number for number in other if number not in self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CohortSet):
            return self.bits == other.bits
        return isinstance(other, Set) and len(self) == len(other) and set(self) == other

    def __hash__(self) -> int:
        if self._hashed is None:
            self._hashed = hash(frozenset(self))
        return self._hashed

    def __repr__(self) -> str:
        return f"CohortSet({sorted(self)})"
