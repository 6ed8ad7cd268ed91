"""Texts packed into one, for an array of thousands that is sent with every question.

A driver encodes an array element by element, which for ten thousand texts takes longer than the
question. One text is copied at once, can be kept packed, and is split faster than an array is read.
Postgres splits it with `string_to_array`. So the separator must occur in no text, and not across
two texts either; that it does not is checked by splitting.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """The arguments of `string_to_array`, whose result is an empty text and then the texts.

    The empty text comes first because an array of one empty text could not be told from none.
    `null` stands for NULL, and is None if there is none.
    """

    text: str
    separator: str
    null: str | None


def pack(texts: Sequence[str | None]) -> PackedTexts:
    """Pack texts."""
    null = None
    parts = ["", *(text for text in texts if text is not None)]
    if len(parts) <= len(texts):
        known = frozenset(parts)
        null = next(name for name in _names("null") if name not in known)
        parts = ["", *(null if text is None else text for text in texts)]
    separator = next(s for s in _separators() if s.join(parts).split(s) == parts)
    return PackedTexts(separator.join(parts), separator, null)


def _separators() -> Iterator[str]:
    yield "\x1f"
    yield from _names("\x1f")


def _names(start: str) -> Iterator[str]:
    return (f"{start}{number}{start}" for number in itertools.count())
