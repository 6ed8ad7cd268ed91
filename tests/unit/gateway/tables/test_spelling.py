from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tables.names import TableName, parse_tables, spell_table

NAMES = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=8
)


@pytest.mark.parametrize(
    ("schema", "table", "text"),
    [
        ("public", "posts", "posts"),
        ("public", "Posts", "Posts"),
        ("app", "posts", "app.posts"),
        ("public", "a.b", '"a.b"'),
        ("my app", "x,y", 'my app."x,y"'),
        ("public", 'say "hi"', '"say ""hi"""'),
        ("public", " x", '" x"'),
    ],
)
def test_names_are_quoted_where_they_must_be(schema: str, table: str, text: str) -> None:
    """A name with a comma, dot, quote or blank at its ends is quoted; public is left out."""
    assert spell_table(schema, table) == text


@given(schema=NAMES, table=NAMES)
def test_what_is_written_is_read_again(schema: str, table: str) -> None:
    """Whatever the names, a list of tables that was written means these tables."""
    text = spell_table(schema, table)
    found = parse_tables(f"{text}, other")
    expected = None if schema == "public" else schema
    assert found == [TableName(expected, table, text.strip()), TableName(None, "other", "other")]
