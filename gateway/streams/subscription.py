"""What a client has subscribed to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Subscription:
    """Tables, as `schema.table`, with the OIDs they had when the client subscribed."""

    relids: Mapping[str, int]
    tables: tuple[str, ...] = field(init=False)
    """The tables' names, in the order in which the client named them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(self.relids))
