"""Signatures on bus messages."""

from __future__ import annotations

import pytest

from shared.errors import BusMessageError
from shared.signature import sign, verify

KEY = b"k" * 32


def test_round_trip() -> None:
    """What was signed is verified and comes back as it was, zero bytes and all."""
    for payload in (b"", b"[1]", b"\0\xff"):
        assert verify(KEY, "ayb:realtime:tick", sign(KEY, "ayb:realtime:tick", payload)) == payload


@pytest.mark.parametrize(
    ("key", "channel", "message"),
    [
        (b"x" * 32, "a", sign(KEY, "a", b"[1]")),
        (KEY, "b", sign(KEY, "a", b"[1]")),
        (KEY, "a", sign(KEY, "a", b"[1]") + b" "),
        (KEY, "a", sign(KEY, "a", b"[1]")[:-1]),
        (KEY, "a", b"[1]"),
        (KEY, "a", b""),
        (KEY, "a", b"\xff" * 64 + b"[1]"),
    ],
)
def test_refused(key: bytes, channel: str, message: bytes) -> None:
    """Another key, another channel, a changed or an unsigned message is refused."""
    with pytest.raises(BusMessageError):
        verify(key, channel, message)


def test_known_value() -> None:
    """HMAC-SHA256 over channel, zero byte and payload, in hex: as OpenSSL computes it."""
    signed = sign(b"key", "channel", b"payload")
    assert signed == b"".join(
        (b"a4a145b63e608fe74c1bdde246f7752728bb76718b569b104a0524de5bd84802", b"payload")
    )
