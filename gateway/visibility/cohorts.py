"""The connections on a table, and which of them Postgres cannot tell apart.

A policy sees a client only through its role and the settings it reads. Connections of one role with
the same values of those settings are a cohort: they are asked about once. Which settings count
depends on the current policies, so the grouping is made for the question, and kept until a
connection comes or goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

M = TypeVar("M")

KNOWN_SETTINGS: Final = ("ayb.user_id", "ayb.user_email", "ayb.tenant_id", "request.jwt.claims")
"""The settings that every client's claims become, in their order.

A deployment may map further claims to settings of its own; their names follow these (see
`gateway.auth.claim_settings`).
"""

Settings = tuple[str, ...]
"""Values of the settings in the order of their names; the empty string where a claim is absent."""

_MOST_GROUPINGS: Final = 8


def user_of(settings: Settings) -> Settings:
    """Return what stands for the user of a connection: the user's id, else all that is known."""
    return settings[:1] if settings and settings[0] else settings


@dataclass(frozen=True, slots=True)
class AskedCohorts:
    """Cohorts that are asked one by one: parallel, their settings and their users.

    `may_postpone` allows leaving some of them out.
    """

    settings: Sequence[Settings]
    users: Sequence[Settings]
    may_postpone: bool = False

    def __len__(self) -> int:
        return len(self.settings)

    def some(self, numbers: Sequence[int]) -> AskedCohorts:
        """Return some of them, by their numbers from 0."""
        return AskedCohorts(
            [self.settings[n] for n in numbers],
            [self.users[n] for n in numbers],
            self.may_postpone,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Grouping(Generic[M]):
    """A snapshot of an audience in cohorts.

    `values` and `members` are parallel: for each cohort the values of the settings that are read
    (in the order of `reads`) and the connections that have them. `names` are those of all settings.
    `users` are parallel too: whom the time that a cohort takes is charged to, see `user_of`. A
    cohort of several users stands for itself.
    """

    reads: tuple[str, ...]
    values: Sequence[tuple[str, ...]]
    members: Sequence[Sequence[M]]
    names: tuple[str, ...] = KNOWN_SETTINGS
    users: Sequence[Settings] = ()
    _settings: list[Settings] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def settings(self) -> Sequence[Settings]:
        """Return each cohort's settings; those that are not read stand as empty."""
        if not self._settings:  # kept, since it takes as long as a question of ten thousand cohorts
            places = [self.reads.index(n) if n in self.reads else -1 for n in self.names]
            self._settings.extend(
                tuple("" if p < 0 else values[p] for p in places) for values in self.values
            )
        return self._settings

    def asked(self, *, may_postpone: bool) -> AskedCohorts:
        """Return the cohorts as they are asked one by one."""
        settings = self.settings()
        return AskedCohorts(settings, self.users or settings, may_postpone)


class Audience(Generic[M]):
    """The connections of one role on one table."""

    def __init__(self, role: str) -> None:
        self.role = role
        self._settings: dict[M, Settings] = {}
        self._cohorts: dict[tuple[tuple[str, ...], tuple[str, ...]], _Cohorts[M]] = {}

    def __len__(self) -> int:
        return len(self._settings)

    def __iter__(self) -> Iterator[M]:
        return iter(self._settings)

    def add(self, member: M, settings: Settings) -> None:
        """Let a connection in; one that is in already gets these settings."""
        if member in self._settings:
            self.discard(member)
        self._settings[member] = settings
        for cohorts in self._cohorts.values():
            cohorts.add(member, settings)

    def discard(self, member: M) -> None:
        """Let a connection go; nothing happens if it is not here."""
        settings = self._settings.pop(member, None)
        if settings is not None:
            for cohorts in self._cohorts.values():
                cohorts.discard(member, settings)

    def settings_of(self, member: M) -> Settings | None:
        """Return a connection's settings, None if it is not here (any more)."""
        return self._settings.get(member)

    def grouped(
        self, reads: tuple[str, ...], names: tuple[str, ...] = KNOWN_SETTINGS
    ) -> Grouping[M]:
        """Group the connections into cohorts by the settings that are read.

        `names` are those of all settings that connections have. The result never changes; the same
        one is returned until a connection comes or goes.
        """
        cohorts = self._cohorts.get((reads, names))
        if cohorts is None:
            if len(self._cohorts) >= _MOST_GROUPINGS:
                self._cohorts.pop(next(iter(self._cohorts)))
            cohorts = self._cohorts[reads, names] = _Cohorts(reads, names)
            for member, settings in self._settings.items():
                cohorts.add(member, settings)
        return cohorts.grouping()


@dataclass(slots=True, eq=False)
class _Cohort(Generic[M]):
    """A cohort's connections, and a copy of them that never changes."""

    members: dict[M, Settings] = field(default_factory=dict)
    copy: tuple[M, ...] = ()
    user: Settings = ()


class _Cohorts(Generic[M]):
    """One way to group, kept up to date: only the cohorts that changed are copied again.

    What is left to do for each of ten thousand cohorts after a change is to list them, so there is
    one object for each, and no value is looked up.
    """

    def __init__(self, reads: tuple[str, ...], names: tuple[str, ...]) -> None:
        self._reads = reads
        self._names = names
        self._places = tuple(names.index(name) for name in reads)
        self._cohorts: dict[tuple[str, ...], _Cohort[M]] = {}
        self._changed: dict[tuple[str, ...], _Cohort[M]] = {}
        self._grouping: Grouping[M] | None = None

    def add(self, member: M, settings: Settings) -> None:
        if len(settings) != len(self._names):
            raise ValueError("a value for each setting is needed")
        values = tuple(settings[place] for place in self._places)
        cohort = self._cohorts.get(values)
        if cohort is None:
            cohort = self._cohorts[values] = _Cohort()
        cohort.members[member] = settings
        self._changed[values] = cohort
        self._grouping = None

    def discard(self, member: M, settings: Settings) -> None:
        values = tuple(settings[place] for place in self._places)
        cohort = self._cohorts[values]
        del cohort.members[member]
        if cohort.members:
            self._changed[values] = cohort
        else:
            del self._cohorts[values]
            self._changed.pop(values, None)
        self._grouping = None

    def grouping(self) -> Grouping[M]:
        if self._grouping is None:
            for values, cohort in self._changed.items():
                cohort.copy = tuple(cohort.members)
                cohort.user = _only_user(values, cohort.members.values())
            self._changed.clear()
            cohorts = self._cohorts.values()
            self._grouping = Grouping(
                self._reads,
                list(self._cohorts),
                [cohort.copy for cohort in cohorts],
                self._names,
                [cohort.user for cohort in cohorts],
            )
        return self._grouping


def _only_user(values: Settings, settings: Iterable[Settings]) -> Settings:
    users = map(user_of, settings)
    first = next(users)
    return first if all(user == first for user in users) else ("several", *values)
