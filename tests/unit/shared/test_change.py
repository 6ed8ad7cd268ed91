"""Changes, batches and ticks, and what they look like on the bus."""

from __future__ import annotations

import json
from collections.abc import Callable

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
    Tick,
    TickTable,
    decode_table_message,
    decode_tick,
    encode,
    memory_bytes,
)
from shared.errors import BusMessageError

HISTORY = "0123456789abcdef"
CREATED = Change(0, 100, Op.CREATE, new=msgspec.Raw(b'{"id": 9007199254740993, "x": 1.50}'))
UPDATED = Change(2, 102, Op.UPDATE, new=msgspec.Raw(b'{"id":1}'), old=msgspec.Raw(b'{"id":2}'))
LOST = Change(3, 103, Op.DELETE, lost=True)
BATCH = Batch(
    epoch=2,
    id=813,
    lsn=77,
    at=1_770_000_000.5,
    tables=(
        TableChanges("public.posts", 16_384, ("id",), (CREATED, UPDATED)),
        TableChanges("my-app.Orders", 16_390, (), (LOST,)),
    ),
)


def test_a_tick_names_the_tables_and_counts_their_changes() -> None:
    """A tick carries the batch's numbers, and of each table the name, the oid and the count."""
    assert BATCH.tick(HISTORY) == Tick(
        FORMAT,
        HISTORY,
        2,
        813,
        77,
        1_770_000_000.5,
        (TickTable("public.posts", 16_384, 2), TickTable("my-app.Orders", 16_390, 1)),
    )


def test_a_tick_is_an_array_of_known_form() -> None:
    """Gateways of another version read the same bytes: an array, its format first."""
    assert encode(BATCH.tick(HISTORY)) == (
        b'[1,"0123456789abcdef",2,813,77,1770000000.5,'
        b'[["public.posts",16384,2],["my-app.Orders",16390,1]],""]'
    )


TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


def test_a_trace_is_the_last_element_of_a_tick() -> None:
    """A gateway without traces ignores what follows the tables; a relay without them sends less."""
    written = encode(BATCH.tick(HISTORY, TRACE))
    assert written.endswith(f',"{TRACE}"]'.encode())
    assert decode_tick(written).trace == TRACE
    before = encode(BATCH.tick(HISTORY)).replace(b',""]', b"]")
    assert decode_tick(before) == BATCH.tick(HISTORY)
    later = written[:-1] + b',{"more":1}]'
    assert decode_tick(later) == BATCH.tick(HISTORY, TRACE)


def test_what_a_batch_is_does_not_depend_on_its_trace() -> None:
    """A leader that repeats a batch begins another trace of it; another content differs."""
    tick = BATCH.tick(HISTORY, TRACE)
    assert tick.announces_same_as(BATCH.tick(HISTORY))
    other = msgspec.structs.replace(BATCH, lsn=78).tick(HISTORY, TRACE)
    assert not tick.announces_same_as(other)


def test_a_trace_has_a_bound() -> None:
    """A tick whose trace is longer than any `traceparent` is none of a relay's."""
    with pytest.raises(BusMessageError):
        decode_tick(encode(BATCH.tick(HISTORY, "x" * 201)))


def test_each_table_has_a_message_of_its_own() -> None:
    """A batch makes one message per table, each with the batch's numbers."""
    messages = BATCH.messages(HISTORY)
    assert [message.content for message in messages] == list(BATCH.tables)
    assert {(m.format, m.history, m.epoch, m.batch) for m in messages} == {
        (FORMAT, HISTORY, 2, 813)
    }


def test_images_pass_through_byte_for_byte() -> None:
    """No number is rounded and no blank is lost on the way."""
    message, _ = BATCH.messages(HISTORY)
    created, updated = decode_table_message(encode(message)).content.changes
    assert created.new_image == b'{"id": 9007199254740993, "x": 1.50}'
    assert created.old_image is None
    assert (updated.new_image, updated.old_image) == (b'{"id":1}', b'{"id":2}')


def test_a_change_without_images_has_none() -> None:
    """A lost change, like a TRUNCATE, comes without either image."""
    for change in (LOST, Change(0, 1, Op.TRUNCATE)):
        assert (change.new_image, change.old_image) == (None, None)


def test_messages_come_back_as_they_were() -> None:
    """What was encoded is decoded to an equal value."""
    tick = BATCH.tick(HISTORY)
    assert decode_tick(encode(tick)) == tick
    for message in BATCH.messages(HISTORY):
        assert decode_table_message(encode(message)) == message


IMAGES = st.dictionaries(st.text(), st.text()).map(
    lambda row: msgspec.Raw(json.dumps(row).encode())
)


@given(
    st.lists(
        st.builds(
            Change,
            st.integers(0, 10**9 - 1),
            st.integers(0, 2**63 - 1),
            st.sampled_from(Op),
            IMAGES,
            truncated=st.booleans(),
            lost=st.booleans(),
        )
    ),
    st.text(max_size=63),
    st.lists(st.text(max_size=63)),
)
def test_any_table_comes_back(changes: list[Change], table: str, key: list[str]) -> None:
    """For any names, numbers and images: one round trip changes nothing."""
    content = TableChanges(table, 1, tuple(key), tuple(changes))
    (message,) = Batch(1, 1, 1, 1.0, (content,)).messages(HISTORY)
    assert decode_table_message(encode(message)) == message


@pytest.mark.parametrize("decode", [decode_tick, decode_table_message])
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[1", b"null", b"\xff", b"[" * 10_000])
def test_what_is_no_message_is_refused(decode: Callable[[bytes], object], data: bytes) -> None:
    """Bytes of any other kind raise BusMessageError, so one bad message ends no gateway."""
    with pytest.raises(BusMessageError, match=r"^not a t"):
        decode(data)


def test_unknown_formats_are_refused() -> None:
    """A message of a later version is refused by its format, not misread."""
    tick = encode(BATCH.tick(HISTORY)).replace(b"[1,", b"[2,", 1)
    table = encode(BATCH.messages(HISTORY)[0]).replace(b"[1,", b"[2,", 1)
    with pytest.raises(BusMessageError, match="unknown format 2"):
        decode_tick(tick)
    with pytest.raises(BusMessageError, match="unknown format 2"):
        decode_table_message(table)


def test_an_image_that_is_not_utf_8_is_refused() -> None:
    """Images are not decoded, but their text is checked before a client gets it."""
    data = encode(BATCH.messages(HISTORY)[0]).replace(b'"x"', b'"\xff"')
    with pytest.raises(BusMessageError, match="not a table message"):
        decode_table_message(data)


def test_memory_grows_with_bytes_and_changes() -> None:
    """The cost of a message is at least its bytes, and each change adds the same."""
    assert memory_bytes(1_000, 0) > 1_000
    one, two, three = (memory_bytes(0, n) for n in (1, 2, 3))
    assert three - two == two - one > 0
