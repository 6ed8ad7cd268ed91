"""Whether another relay leads too, of the same log.

In one database there is one leader. But an old primary that was not fenced when its standby was
promoted still has one of its own: both number batches of the same history, and whoever writes to
the old primary writes what will be lost. Both publish to the same Redis servers. So each leader
announces itself there every second, and one that keeps hearing another says so.

One announcement is not enough: at a takeover the last one of the previous leader is still under
way.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shared.change import FORMAT, Epoch, History
from shared.errors import BusMessageError

ANNOUNCE_SECONDS: Final = 1.0
_INSISTING_SECONDS: Final = 1.5
"""Whoever has announced itself for so long leads, and did not just stop."""

SILENT_SECONDS: Final = 5.0
"""After so long without an announcement a leader no longer counts."""

MOST_KEPT: Final = 16
"""Leaders beyond these are ignored: anyone who can publish may make announcements up."""


class Announcement(msgspec.Struct, frozen=True, array_like=True):
    """What a leader says of itself; `id` is random, and of one process."""

    format: int
    history: History
    id: str
    name: str
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


class Rivals:
    """The other leaders, by what was heard of them while this relay leads; times are seconds."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._heard: dict[str, tuple[Announcement, float, float]] = {}

    def clear(self) -> None:
        """Forget what was heard, as when the lead is taken."""
        self._heard.clear()

    def on_announcement(self, announcement: Announcement, now: float) -> None:
        """Count what a leader says of itself."""
        if announcement.id != self._own_id:
            self._forget_silent(now)
            known = self._heard.get(announcement.id)
            if known is not None or len(self._heard) < MOST_KEPT:
                first = now if known is None else known[1]
                self._heard[announcement.id] = (announcement, first, now)

    def present(self, now: float) -> list[Announcement]:
        """Return the relays that lead too."""
        self._forget_silent(now)
        return [
            announcement
            for announcement, first, last in self._heard.values()
            if last - first >= _INSISTING_SECONDS
        ]

    def _forget_silent(self, now: float) -> None:
        self._heard = {
            id_: heard for id_, heard in self._heard.items() if now - heard[2] < SILENT_SECONDS
        }
