from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.change import (
    FORMAT,
    Batch,
    Change,
    Op,
    TableChanges,
    decode_table_message,
    decode_tick,
    encode,
)
from shared.errors import BusMessageError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def batch(image: bytes) -> Batch:
    change = Change(0, 7, Op.UPDATE, msgspec.Raw(image), msgspec.Raw(b'{"a":1.50}'))
    return Batch(2, 9, 1, 1.5, (TableChanges("public.t", 5, ("a",), (change,)),))


def test_what_is_written_is_read_byte_for_byte() -> None:
    """Row images pass through the bus without being decoded."""
    image = b'{"a":9007199254740993, "b":  1.00,"c":"\\u00e9"}'
    (message,) = batch(image).messages()
    read = decode_table_message(encode(message))
    assert read.content.changes[0].new_image == image
    assert read.content.changes[0].old_image == b'{"a":1.50}'
    assert decode_tick(encode(batch(image).tick())) == batch(image).tick()


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """Nothing on the bus raises anything but BusMessageError."""
    for decode in (decode_tick, decode_table_message):
        with contextlib.suppress(BusMessageError):
            decode(data)


def test_deep_nesting_is_refused() -> None:
    """A message that nests without end does not end the gateway."""
    for text in (b"[" * 100_000, b'[1,1,1,["a",1,[],' + b"[" * 100_000):
        for decode in (decode_tick, decode_table_message):
            with pytest.raises(BusMessageError):
                decode(text)


def test_another_format_is_refused() -> None:
    """A gateway drops what a newer relay writes in another format; it finds it in the outbox."""
    tick = encode(msgspec.structs.replace(batch(b"{}").tick(), format=FORMAT + 1))
    with pytest.raises(BusMessageError, match="format"):
        decode_tick(tick)
