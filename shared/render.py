"""Row images as clients see them.

The capture trigger writes a row as `row_to_json` prints it under pinned settings. Two things remain
to be done, and every other byte stays as it is: `timestamptz` values end in `+00:00`, which becomes
`Z`, and values of type `json` may contain raw line breaks, which would end a line of a Server-Sent
Event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

DEEPEST: Final = 200
"""How deeply arrays and objects may be nested; JSON decoders give up at about 1,000."""

_UTC: Final = b'+00:00"'
_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


class UnreadableImageError(ValueError):
    """An image that a decoder on the way to the client would refuse."""


def render(image: bytes, stamps: Collection[str]) -> bytes:
    """Render a row image; `stamps` are its columns of type `timestamptz`.

    Only values at the top level are touched, and only as a whole: text that merely looks like a
    time is left alone. Raises `UnreadableImageError` for an image that is not a JSON object or is
    nested too deeply.
    """
    if b"\n" in image or b"\r" in image:
        # Inside a JSON string a line break is always escaped.
        image = image.translate(_LINE_BREAKS)
    if image.count(b"[") + image.count(b"{") > DEEPEST and _depth(image) > DEEPEST:
        raise UnreadableImageError(f"nested more than {DEEPEST} deep")
    if not stamps or _UTC not in image:
        return image
    try:
        members = _decoder.decode(image)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableImageError(str(error)) from None
    changed = False
    for name in stamps:
        value = members.get(name)
        if value is not None and (token := bytes(value)).endswith(_UTC):
            members[name] = msgspec.Raw(token.removesuffix(_UTC) + b'Z"')
            changed = True
    return _encoder.encode(members) if changed else image


def _depth(text: bytes) -> int:
    deepest = depth = 0
    in_string = escaped = False
    for byte in text:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
