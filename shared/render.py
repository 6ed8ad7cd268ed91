"""Row images as clients see them.

The capture trigger writes a row as `row_to_json` prints it under pinned settings. Two things are
left to do, and both leave every other byte unchanged: `timestamptz` values end in `+00:00`, where
RFC 3339 in UTC has `Z`, and values of type `json` may contain raw line breaks, which would end a
line of a Server-Sent Event. Whatever is rendered can be decoded on every way to the client.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

DEEPEST: Final = 200
"""How deeply arrays and objects may be nested; JSON decoders give up at about 1,000."""

_UTC: Final = b'+00:00"'
_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = tuple(1 if byte in b"[{" else -1 for byte in range(256))

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


class UnreadableImageError(ValueError):
    """An image that a decoder on the way to the client would refuse."""


def render(image: bytes, stamps: Collection[str]) -> bytes:
    """Render a row image; `stamps` are its columns of type `timestamptz`.

    Only values at the top level change, and only as a whole: text that merely looks like a time
    stays. Raises `UnreadableImageError` if the image is not a JSON object, contains half of a
    surrogate pair (Postgres stores those as `json`), or is nested too deeply.
    """
    if b"\n" in image or b"\r" in image:
        # Inside a JSON string a line break is always written as an escape.
        image = image.translate(_LINE_BREAKS)
    if image.count(b"[") + image.count(b"{") > DEEPEST and _depth(image) > DEEPEST:
        raise UnreadableImageError(f"nested more than {DEEPEST} deep")
    has_stamps = stamps and _UTC in image
    if not has_stamps and b"\\u" not in image:
        return image
    try:
        members = _decoder.decode(image)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableImageError(str(error)) from None
    if not has_stamps:
        return image
    changed = False
    for name in stamps:
        value = members.get(name)
        if value is not None and (token := bytes(value)).endswith(_UTC):
            members[name] = msgspec.Raw(token.removesuffix(_UTC) + b'Z"')
            changed = True
    return _encoder.encode(members) if changed else image


def _depth(text: bytes) -> int:
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)
