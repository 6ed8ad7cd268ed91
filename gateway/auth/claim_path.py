"""Where a claim is found in a token: its name, or the names that lead to it.

`app_metadata.role` leads into an object. A name that itself contains a dot, a comma or an equals
sign is double-quoted, with a quote in it doubled: `"https://example.com/role"`,
`"https://example.com/user".team`. Without quotes, a claim whose own name is the whole path comes
first, so `https://example.com/role` finds such a claim too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSENT: Final = object()
"""What `ClaimPath.find` returns for a claim that is not there."""

_STEP = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
_QUOTED_OR_NOT = re.compile(r'(?:[^",]|"[^"]*")+')


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """The names that lead to a claim, from the outside in; `text` is the path as it was written."""

    text: str
    names: tuple[str, ...]

    def find(self, claims: Mapping[str, object]) -> object:
        """Return the claim, or `ABSENT`."""
        if '"' not in self.text and self.text in claims:
            return claims[self.text]
        value: object = claims
        for name in self.names:
            if not isinstance(value, dict) or name not in value:
                return ABSENT
            value = value[name]
        return value


def parse_claim_path(text: str) -> ClaimPath:
    """Read a path; raises `ValueError`, whose text says what is wrong."""
    names: list[str] = []
    place = 0
    while (step := _STEP.match(text, place)) is not None:
        quoted, bare = step.groups()
        names.append(bare if quoted is None else quoted.replace('""', '"'))
        place = step.end()
        if place == len(text):
            return ClaimPath(text, tuple(names))
        if text[place] != ".":
            break
        place += 1
    raise ValueError(
        f"{text} is not the path of a claim: names joined by dots, "
        'those that contain a dot double-quoted (app_metadata.role, "https://example.com/role")'
    )


def split_list(text: str) -> list[str]:
    """Split a list at the commas outside double quotes, and drop the blanks around its parts.

    Raises `ValueError` if a quote is not closed.
    """
    if text.count('"') % 2:
        raise ValueError(f"{text} contains a double quote that is not closed")
    return [part for part in (piece.strip() for piece in _QUOTED_OR_NOT.findall(text)) if part]
