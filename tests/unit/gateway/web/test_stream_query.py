"""The query of a stream request, as anybody may write it."""

from __future__ import annotations

import contextlib
from urllib.parse import parse_qsl, quote_from_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestTooLongError
from gateway.streams.cursor import cursor_at
from gateway.web.stream_request import parse_query
from shared.errors import PositionError
from shared.position import parse_position

NAMES = ("tables", "token", "lastEventId", "leave", "other")


@given(st.binary(max_size=500))
def test_any_bytes_are_a_query_or_refused(data: bytes) -> None:
    """No bytes raise anything but the refusal, and no value holds what UTF-8 cannot write."""
    for query_string in (data, b"tables=" + data, b"tables=" + quote_from_bytes(data).encode()):
        with contextlib.suppress(RequestTooLongError):
            for value in parse_query(query_string).values():
                value.encode()


@given(st.text("tables=&+%;?/#éa20Fx", max_size=60))
def test_a_query_is_read_as_urllib_does(text: str) -> None:
    """Blanks, escapes, empty pairs and names without a value mean what they mean elsewhere."""
    expected: dict[str, list[str]] = {}
    for name, value in parse_qsl(text.encode().decode("latin-1"), keep_blank_values=True):
        expected.setdefault(name, []).append(value)
    assert parse_query(text.encode()) == {
        name: ",".join(values) if name == "tables" else values[0]
        for name, values in expected.items()
    }


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(max_size=20)), max_size=10))
def test_any_values_are_read_back(pairs: list[tuple[str, str]]) -> None:
    """The first value of a name counts; lists of tables are put together."""
    query = parse_query(urlencode(pairs).encode())
    for name in NAMES:
        values = [value for key, value in pairs if key == name]
        expected = ",".join(values) if name == "tables" else next(iter(values), None)
        assert query.get(name) == (expected if values else None)


@given(st.binary(max_size=60))
def test_any_header_is_a_position_or_none(data: bytes) -> None:
    """`Last-Event-ID` as it comes off the wire is a position, or refused as one."""
    with contextlib.suppress(PositionError):
        position = parse_position(data.decode("latin-1"))
        assert cursor_at(position) < 2**122
        assert position.batch < 2**63


def test_too_many_parameters() -> None:
    """A query of very many parameters is refused before they are all read."""
    with pytest.raises(RequestTooLongError):
        parse_query(b"&".join(b"a=1" for _ in range(1_000)))
