"""Whether another relay leads too, of the same log.

In one database there is one leader. But an old primary that was not fenced when its standby was
promoted still has one of its own: both number batches of the same history, and whoever writes to
the old primary writes what will be lost. Both publish to the same Redis servers. So each leader
announces itself there every second, and one that keeps hearing another says so.

One announcement is not enough: at a takeover the last one of the previous leader is still under
way.

Without a bus key, anyone who can publish can make announcements up. Memory has a bound, so ids that
are heard once must not keep out a leader that is heard every second: the one that was silent for
longest makes way, and leaders that insist have places of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from shared.change import FORMAT, Epoch, History
from shared.errors import BusMessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

ANNOUNCE_SECONDS: Final = 1.0
_INSISTING_SECONDS: Final = 1.5
"""Whoever has announced itself for so long leads, and did not just stop."""

SILENT_SECONDS: Final = 5.0
"""After so long without an announcement a leader no longer counts."""

MOST_KEPT: Final = 1_000
"""How many leaders that insist are kept, and how many that were heard too briefly to count."""

MOST_NAMED: Final = 16
"""How many of them are named at a time."""

_MOST_CHARACTERS: Final = 300


class Announcement(msgspec.Struct, frozen=True, array_like=True):
    """What a leader says of itself; `id` is random, and of one process."""

    format: int
    history: History
    id: Annotated[str, msgspec.Meta(max_length=_MOST_CHARACTERS)]
    name: Annotated[str, msgspec.Meta(max_length=_MOST_CHARACTERS)]
    epoch: Epoch


_decoder = msgspec.json.Decoder(Announcement)


def decode_announcement(data: bytes) -> Announcement:
    """Read an announcement; raise `BusMessageError` for anything else."""
    try:
        announcement = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BusMessageError(f"not an announcement: {error}") from None
    if announcement.format != FORMAT:
        raise BusMessageError(f"announcement of unknown format {announcement.format}")
    return announcement


def describe(rivals: Sequence[Announcement], *, is_signed: bool) -> str | None:
    """Say which relays lead too, and what to do; None if there are none."""
    if not rivals:
        return None
    names = "; ".join(f"{rival.name} (epoch {rival.epoch})" for rival in rivals[:MOST_NAMED])
    more = len(rivals) - MOST_NAMED
    if more > 0:
        names += f"; and {more} more"
        if not is_signed:
            names += ", which anyone who may publish could make up: set AYB_REALTIME_BUS_KEY"
    return f"another relay leads too, on another primary: fence the old one; {names}"


@dataclass(slots=True)
class _Heard:
    announcement: Announcement
    first: float
    last: float


class Rivals:
    """The other leaders, by what was heard of them while this relay leads; times are seconds."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        # The one that was silent for longest comes first.
        self._new: OrderedDict[str, _Heard] = OrderedDict()
        self._insisting: OrderedDict[str, _Heard] = OrderedDict()

    def clear(self) -> None:
        """Forget what was heard, as when the lead is taken."""
        self._new.clear()
        self._insisting.clear()

    def on_announcement(self, announcement: Announcement, now: float) -> None:
        """Count what a leader says of itself."""
        id_ = announcement.id
        if id_ == self._own_id:
            return
        self._forget_silent(now)
        if (heard := self._insisting.get(id_)) is not None:
            heard.announcement, heard.last = announcement, now
            self._insisting.move_to_end(id_)
            return
        heard = self._new.pop(id_, None) or _Heard(announcement, now, now)
        heard.announcement, heard.last = announcement, now
        if now - heard.first >= _INSISTING_SECONDS and len(self._insisting) < MOST_KEPT:
            self._insisting[id_] = heard
            return
        self._new[id_] = heard
        if len(self._new) > MOST_KEPT:
            self._new.popitem(last=False)

    def present(self, now: float) -> list[Announcement]:
        """Return the relays that lead too."""
        self._forget_silent(now)
        return [heard.announcement for heard in self._insisting.values()]

    def _forget_silent(self, now: float) -> None:
        for known in (self._new, self._insisting):
            while known and now - next(iter(known.values())).last >= SILENT_SECONDS:
                known.popitem(last=False)
