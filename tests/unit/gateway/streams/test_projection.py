from __future__ import annotations

from gateway.streams import projection

IMAGE = b'{"id":9007199254740993,"salary":1.50,"name":"x","meta":{"b": 1,  "a":[1.0]}}'


def test_a_fully_readable_image_passes_byte_for_byte() -> None:
    """No value is decoded and written again."""
    assert projection.record(IMAGE, frozenset({"id", "salary", "name", "meta"})) == IMAGE
    assert projection.record(IMAGE, None) == IMAGE


def test_a_column_that_may_not_be_read_is_not_there() -> None:
    """Hidden columns are left out, the others keep order and bytes."""
    assert projection.record(IMAGE, frozenset({"id", "name", "meta"})) == (
        b'{"id":9007199254740993,"name":"x","meta":{"b": 1,  "a":[1.0]}}'
    )


def test_a_key_record_holds_the_readable_key_in_key_order() -> None:
    """Only key columns, in the order of the key, and only readable ones."""
    assert projection.key_record(IMAGE, ("name", "id"), None) == (
        b'{"name":"x","id":9007199254740993}'
    )
    assert projection.key_record(IMAGE, ("name", "id"), frozenset({"id"})) == (
        b'{"id":9007199254740993}'
    )
    assert projection.key_record(IMAGE, (), None) == b"{}"
