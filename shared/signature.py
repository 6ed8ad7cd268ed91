"""Signatures on bus messages, so that writing to Redis is not enough to speak for the relay.

A message is preceded by 64 hexadecimal digits: HMAC-SHA256 (RFC 2104) with the shared key over the
channel, a zero byte, and the payload. The channel is included so that a message of one table cannot
be replayed on the channel of another.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from shared.errors import BusMessageError

_DIGITS: Final = hashlib.sha256().digest_size * 2


def sign(key: bytes, channel: str, payload: bytes) -> bytes:
    """Put the signature before the payload."""
    return _signature(key, channel, payload) + payload


def verify(key: bytes, channel: str, message: bytes) -> bytes:
    """Return the payload of a signed message; raise `BusMessageError` if the signature is wrong."""
    signature, payload = message[:_DIGITS], message[_DIGITS:]
    if not hmac.compare_digest(signature, _signature(key, channel, payload)):
        raise BusMessageError("wrong signature")
    return payload


def _signature(key: bytes, channel: str, payload: bytes) -> bytes:
    # Names in Postgres contain no zero byte, so channels do not either.
    signed = channel.encode() + b"\0" + payload
    return hmac.digest(key, signed, hashlib.sha256).hex().encode()
