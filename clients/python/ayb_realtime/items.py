"""What a stream carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a row that the user may see.

    `record` is the whole new row, or the primary key of a deleted one, or of one that is too large
    to be sent (`is_truncated`). A table in `public` is named without its schema. `position` is
    where to continue after this item; it may be stored.
    """

    action: Literal["create", "update", "delete"]
    table: str
    record: Mapping[str, Any]
    position: str
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Resync:
    """Something was missed that cannot be sent any more: fetch these tables again."""

    reason: str
    tables: tuple[str, ...]
    position: str | None


@dataclass(frozen=True, slots=True)
class Truncate:
    """The table was emptied."""

    table: str
    position: str | None


@dataclass(frozen=True, slots=True)
class StreamError:
    """A policy fails for this user, or the user may no longer read a table."""

    message: str
    position: str | None


Item: TypeAlias = Change | Resync | Truncate | StreamError
