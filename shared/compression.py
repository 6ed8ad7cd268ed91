"""Compressed messages on the bus, for regions where wide-area traffic is expensive.

A plain message begins with `[`, a compressed one with the header of the zlib format (RFC 1950).
zlib rather than zstd, since it needs no further package and saves as much on messages of this size.
"""

from __future__ import annotations

import zlib
from typing import Final

from shared.errors import BusMessageError

MOST_BYTES: Final = 16 * 1024 * 1024
"""A larger message is not decompressed: the gateway reads it from the outbox."""

_LEVEL: Final = 1
_HEADER: Final = b"\x78"


def compress(message: bytes) -> bytes:
    """Compress a message, for speed rather than size."""
    return zlib.compress(message, _LEVEL)


def decompress(data: bytes, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the message that was sent, compressed or not.

    Raises `BusMessageError` if it is damaged or larger than `most_bytes`.
    """
    if not data.startswith(_HEADER):
        return data
    stream = zlib.decompressobj()
    try:
        message = stream.decompress(data, most_bytes)
    except zlib.error as error:
        raise BusMessageError(f"not decompressed: {error}") from None
    if not stream.eof or stream.unused_data:
        raise BusMessageError(f"larger than {most_bytes} bytes, or cut off")
    return message
