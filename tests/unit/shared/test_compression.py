"""Compressed messages."""

from __future__ import annotations

import pytest

from shared.compression import compress, decompress
from shared.errors import BusMessageError

MESSAGE = b'[1,"0123456789abcdef",' + b'"text",' * 1000 + b"0]"


def test_what_is_sent_arrives() -> None:
    """A compressed message is smaller and comes back; one that is not compressed stays as it is."""
    small = compress(MESSAGE)
    assert len(small) < len(MESSAGE) / 10
    assert decompress(small) == MESSAGE
    assert decompress(MESSAGE) == MESSAGE
    assert decompress(small, len(MESSAGE)) == MESSAGE


@pytest.mark.parametrize(
    ("data", "most"),
    [
        (compress(MESSAGE), len(MESSAGE) - 1),
        (compress(MESSAGE)[:-3], 10**6),
        (compress(MESSAGE) + b"x", 10**6),
        (b"\x78\x01nonsense", 10**6),
        (compress(b"\0" * 50_000_000), 10**6),
    ],
)
def test_what_is_damaged_or_too_large_is_refused(data: bytes, most: int) -> None:
    """Neither a bomb nor rubbish is taken for a message."""
    with pytest.raises(BusMessageError):
        decompress(data, most)
