"""gateway.visibility.joined.given_calls: calls of functions that are given columns of the row."""

from __future__ import annotations

import pytest

from gateway.visibility.joined.given_calls import called, read_given
from gateway.visibility.joined.lexer import UnreadableError, tokenize

COLUMNS = ("id", "title", "Odd", "posts", "user", "true", "current_schema")


@pytest.mark.parametrize(
    ("text", "at", "found"),
    [
        ("public.f(id)", 0, ("public", "f")),
        ('"Odd"."f g"(id)', 0, ("Odd", "f g")),
        ("(public.f(id))", 1, ("public", "f")),
        ("f(id)", 0, None),
        ("public.f", 0, None),
        ("public.f + (id)", 0, None),
        ("1 . f(id)", 0, None),
        ("a.public.f(id)", 2, None),
        ("public.f(id)", 2, None),
    ],
)
def test_called(text, at, found):
    """A call is a name with its schema, and arguments."""
    assert called(tokenize(text), at) == found


@pytest.mark.parametrize(
    ("text", "sql", "columns"),
    [
        ("public.f(id)", "public.f ( ayb_given.c0 )", ("id",)),
        ("public.f(posts.id)", "public.f ( ayb_given.c0 )", ("id",)),
        ('public.f("Odd", id, "Odd")', "public.f ( ayb_given.c0 , ayb_given.c1 , ayb_given.c0 )",
         ("Odd", "id")),
        ("public.f((id)::text, 'id'::text)",
         "public.f ( ( ayb_given.c0 ) ::pg_catalog.text , 'id' ::pg_catalog.text )", ("id",)),
        ("public.id(public.title(id))", "public.id ( public.title ( ayb_given.c0 ) )", ("id",)),
        ("public.f(posts)", "public.f ( ayb_given.c0 )", ("posts",)),
        ('public.f(true, USER, "user")', "public.f ( true , USER , ayb_given.c0 )", ("user",)),
        ("public.f(( SELECT m.y FROM s.m WHERE (m.x = posts.id)))",
         "public.f ( ( SELECT m.y FROM s.m WHERE ( m.x OPERATOR(pg_catalog.=) ayb_given.c0 ) ) )",
         ("id",)),
    ],
)  # fmt: skip
def test_columns_are_replaced(text, sql, columns):
    """Columns of the row are replaced wherever they are, and nothing else is."""
    closed, found = read_given(tokenize(text), "posts", COLUMNS)
    assert (closed.sql, found) == (sql, columns)


@pytest.mark.parametrize(
    "text",
    ["public.f()", "public.f(other)", "public.f(m.id)", "public.f(id, ayb_given.c0)",
     "public.f(title.id)", "public.f(posts.*)", "public.f('1'::id)",
     "public.f(id, CURRENT_SCHEMA)"],
)  # fmt: skip
def test_what_is_not_read(text):
    """A column of something else, or a whole row, is not taken for a column of the row."""
    with pytest.raises(UnreadableError):
        read_given(tokenize(text), "posts", COLUMNS)
