"""From a row image to the record that a role may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def record(image: bytes, columns: frozenset[str] | None) -> bytes:
    """Keep the readable columns of an image, in its order; None keeps them all.

    Values pass through byte for byte. Raises `msgspec.DecodeError` if the image is not a JSON
    object.
    """
    members = _decoder.decode(image)
    if columns is None or columns.issuperset(members):
        return image
    return _encoder.encode({name: value for name, value in members.items() if name in columns})


def key_record(image: bytes, key: Iterable[str], columns: frozenset[str] | None) -> bytes:
    """Keep the readable key columns of an image, in the order of the key."""
    members = _decoder.decode(image)
    return _encoder.encode(
        {
            name: members[name]
            for name in key
            if name in members and (columns is None or name in columns)
        }
    )
