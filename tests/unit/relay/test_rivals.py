"""Whether another relay leads too."""

from __future__ import annotations

import msgspec
import pytest

from relay.rivals import MOST_KEPT, Announcement, Rivals, decode_announcement
from shared.errors import BusMessageError

OTHER = Announcement(1, "0123456789abcdef", "b", "host, process 7", 3)


def test_one_that_goes_on_is_a_rival_until_it_is_silent():
    """What was under way at a takeover is no rival; what keeps coming is, for a few seconds."""
    rivals = Rivals("a")
    rivals.on_announcement(OTHER, 10.0)
    rivals.on_announcement(msgspec.structs.replace(OTHER, id="a"), 10.0)
    assert not rivals.present(10.5)
    rivals.on_announcement(OTHER, 12.0)
    assert rivals.present(12.5) == [OTHER]
    assert not rivals.present(18.0)


def test_after_a_silence_it_starts_over():
    """Two announcements far apart, or before the lead was taken, prove nothing."""
    rivals = Rivals("a")
    rivals.on_announcement(OTHER, 10.0)
    rivals.on_announcement(OTHER, 20.0)
    assert not rivals.present(20.0)
    rivals.clear()
    rivals.on_announcement(OTHER, 22.0)
    assert not rivals.present(22.0)


def test_announcements_are_read_strictly():
    """What is no announcement, or of another format, is an error."""
    data = msgspec.json.encode(OTHER)
    assert decode_announcement(data) == OTHER
    for wrong in (b"[]", b"\xff", data.replace(b"[1,", b"[2,"), data.replace(b",3]", b",0]")):
        with pytest.raises(BusMessageError):
            decode_announcement(wrong)


def test_at_most_a_few_are_kept():
    """Made-up announcements take no memory; places of those that went silent are used again."""
    rivals = Rivals("a")
    for now in (10.0, 12.0):
        for number in range(1000):
            rivals.on_announcement(msgspec.structs.replace(OTHER, id=f"{number}"), now)
    assert len(rivals.present(12.0)) == MOST_KEPT
    for now in (18.0, 20.0):
        rivals.on_announcement(OTHER, now)
    assert rivals.present(20.0) == [OTHER]
