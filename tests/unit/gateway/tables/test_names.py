from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tables.names import parse_tables


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ("posts", [(None, "posts")]),
        (" posts , ,comments,", [(None, "posts"), (None, "comments")]),
        ("app.orders", [("app", "orders")]),
        ('"my-app"."Orders"', [("my-app", "Orders")]),
        ('my-app."Orders"', [("my-app", "Orders")]),
        ('"a.b","c,d"', [(None, "a.b"), (None, "c,d")]),
        ('"Größe-😀"', [(None, "Größe-😀")]),
        ('"say ""hi"""', [(None, 'say "hi"')]),
        ("Weird Table", [(None, "Weird Table")]),
        ("posts,posts", [(None, "posts")]),
        ("", []),
        (" , ", []),
    ],
)
def test_names_are_read_as_clients_write_them(
    parameter: str, expected: list[tuple[str | None, str]]
) -> None:
    """Names are trimmed, empties skipped, parts may be quoted, doubles count once."""
    assert [(name.schema, name.table) for name in parse_tables(parameter)] == expected


@pytest.mark.parametrize(
    "parameter", ["a.b.c", '"open', 'a"b', '""', "a.", ".b", '"a"b', "x\x00y", '"a""']
)
def test_what_is_no_name_is_refused(parameter: str) -> None:
    """A name that cannot be read fails with its own text."""
    with pytest.raises(ValueError, match=r".*") as caught:
        parse_tables(f"posts,{parameter}")
    assert str(caught.value) == parameter


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(parameter: str) -> None:
    """No input raises anything but ValueError, and no name read is empty."""
    with contextlib.suppress(ValueError):
        assert all(name.table for name in parse_tables(parameter))


@given(st.lists(st.text(min_size=1).filter(lambda name: "\x00" not in name), min_size=1))
def test_any_quoted_name_is_read_back(tables: list[str]) -> None:
    """A quoted name means exactly its text."""
    quoted = ",".join('"' + table.replace('"', '""') + '"' for table in tables)
    assert [name.table for name in parse_tables(quoted)] == list(dict.fromkeys(tables))
