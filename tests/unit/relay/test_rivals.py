"""Whether another relay leads too."""

from __future__ import annotations

from itertools import count

import msgspec
import pytest

from relay.rivals import (
    MOST_KEPT,
    MOST_NAMED,
    Announcement,
    Rivals,
    decode_announcement,
    describe,
)
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


def test_made_up_leaders_keep_no_leader_out():
    """Ids that are heard once, however many, hide no leader that is heard every second."""
    rivals, made_up = Rivals("a"), count()
    for now in (10.0, 10.9, 11.8):
        for number in range(MOST_KEPT - 1):
            other = msgspec.structs.replace(OTHER, id=f"{next(made_up)}")
            rivals.on_announcement(other, now + number / MOST_KEPT * 0.8)
        rivals.on_announcement(OTHER, now + 0.85)
    assert rivals.present(13.0) == [OTHER]


def test_memory_has_a_bound():
    """Made-up announcements take bounded memory; places of those that went silent are reused."""
    rivals = Rivals("a")
    for now in (10.0, 12.0):
        for number in range(MOST_KEPT + 500):
            rivals.on_announcement(msgspec.structs.replace(OTHER, id=f"{number % 900}"), now)
    assert len(rivals.present(12.0)) == 900
    for now in (13.0, 13.1, 15.0):
        for number in range(900, 2 * MOST_KEPT):
            rivals.on_announcement(msgspec.structs.replace(OTHER, id=f"{number}"), now)
    assert len(rivals.present(15.0)) <= MOST_KEPT
    for now in (21.0, 23.0):
        rivals.on_announcement(OTHER, now)
    assert rivals.present(23.0) == [OTHER]
    long = msgspec.structs.replace(OTHER, name="x" * 1000)
    with pytest.raises(BusMessageError):
        decode_announcement(msgspec.json.encode(long))


def test_what_is_said_of_them():
    """The first are named. More than an operator runs were made up, if messages are not signed."""
    assert describe([], is_signed=True) is None
    said = describe([OTHER], is_signed=False)
    assert said is not None
    assert said.endswith("fence the old one; host, process 7 (epoch 3)")
    many = describe([OTHER] * (MOST_NAMED + 2), is_signed=False)
    assert many is not None
    assert many.count("process 7") == MOST_NAMED
    assert "; and 2 more, which anyone" in many
    assert many.endswith("set AYB_REALTIME_BUS_KEY")
    signed = describe([OTHER] * (MOST_NAMED + 2), is_signed=True)
    assert signed is not None
    assert signed.endswith("; and 2 more")
