"""Messages of the bus as others may write them."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.change import decode_table_message, decode_tick, encode
from shared.errors import BusMessageError

HISTORY = "0123456789abcdef"
TICK = [1, HISTORY, 2, 3, 4, 5.0, [["public.posts", 7, 1]]]
TABLE = [1, HISTORY, 2, 3, ["public.posts", 7, ["id"], [[0, 1, "I", {"id": 1}]]]]
LARGEST = {"epoch": 10**9 - 1, "batch": 10**18 - 1, "lsn": 2**63 - 1}

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner)
)


def places(value: object, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    found = [path]
    if isinstance(value, list):
        for n, inner in enumerate(value):
            found += places(inner, (*path, n))
    return found


def replaced(value: object, path: tuple[int, ...], by: object) -> object:
    if not path:
        return by
    assert isinstance(value, list)
    return [replaced(v, path[1:], by) if n == path[0] else v for n, v in enumerate(value)]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """No bytes raise anything but BusMessageError."""
    for decode in (decode_tick, decode_table_message):
        with contextlib.suppress(BusMessageError):
            decode(data)


@given(st.data())
def test_one_wrong_part(data: st.DataObject) -> None:
    """With any part exchanged, a message is refused, or what is read can be written and asked."""
    for decode, good in ((decode_tick, TICK), (decode_table_message, TABLE)):
        path = data.draw(st.sampled_from(places(good)))
        text = json.dumps(replaced(good, path, data.draw(values))).encode()
        with contextlib.suppress(BusMessageError):
            message = decode(text)
            assert 0 < message.epoch <= LARGEST["epoch"]
            assert 0 <= message.batch <= LARGEST["batch"]
            assert decode(encode(message)) == message


@given(st.integers(0, 60), st.integers(0, 255))
def test_one_wrong_byte(place: int, byte: int) -> None:
    """With any byte exchanged, a message is refused or is text through and through."""
    for decode, good in ((decode_tick, TICK), (decode_table_message, TABLE)):
        data = bytearray(json.dumps(good).encode())
        data[place % len(data)] = byte
        with contextlib.suppress(BusMessageError):
            decode(bytes(data))
            data.decode()


@pytest.mark.parametrize("place", [2, 3, 4])
def test_the_largest_numbers(place: int) -> None:
    """The largest numbers that positions and Postgres hold are taken, the next are not."""
    largest = list(LARGEST.values())[place - 2]
    good = replaced(TICK, (place,), largest)
    assert list(json.loads(encode(decode_tick(json.dumps(good).encode()))))[place] == largest
    with pytest.raises(BusMessageError):
        decode_tick(json.dumps(replaced(TICK, (place,), largest + 1)).encode())
