"""What visibility is asked about, and what it answers."""

from __future__ import annotations

import enum
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.visibility.cohorts import Grouping
    from gateway.visibility.rules import Rules

M = TypeVar("M")


class Everybody(enum.Enum):
    """The type of `EVERYBODY`."""

    EVERYBODY = "everybody"


EVERYBODY: Final = Everybody.EVERYBODY
"""Every cohort sees it."""

Visible = AbstractSet[int] | Everybody
"""The numbers of the cohorts that see an image, or all of them."""

NOBODY: Final[frozenset[int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Image:
    """A row as it was: the whole row image of an event, one line of JSON.

    `seq` is the number of its change in the outbox, if it is known. `is_past` says that this change
    itself has replaced it.
    """

    json: bytes
    seq: int | None = None
    is_past: bool = False


@dataclass(frozen=True, slots=True)
class Answer(Generic[M]):
    """Who sees what.

    `columns` are those that the role may read now; none means that nothing may be sent. `visible`
    is parallel to the images asked about. `broken` has a message for each cohort on which a policy
    raises: it names no value. `undecidable` are images that cannot be judged: they are visible to
    no one. `superseded` are, by image, the cohorts that see its row, which has changed since: the
    image is withheld from them. `unanswered` are the cohorts for which the server failed: whether
    they see any of the images is not known. `postponed` are the cohorts that were left out and are
    to be asked about next: those that the time did not suffice for, and `costly` ones, which are
    not to delay the others. `is_gone` says that the table or the role is no longer there.
    """

    columns: frozenset[str]
    grouping: Grouping[M]
    visible: Sequence[Visible]
    broken: Mapping[int, str] = field(default_factory=dict)
    undecidable: frozenset[int] = frozenset()
    superseded: Mapping[int, AbstractSet[int]] = field(default_factory=dict)
    unanswered: frozenset[int] = frozenset()
    is_gone: bool = False
    postponed: frozenset[int] = frozenset()
    costly: frozenset[int] = frozenset()
    rules: Rules | None = None
    """The rules by which it was answered."""
