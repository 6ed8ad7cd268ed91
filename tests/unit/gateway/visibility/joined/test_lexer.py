"""gateway.visibility.joined.lexer: policy text, as Postgres 18 deparses it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.visibility.joined.lexer import UnreadableError, render, tokenize


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a = 'it''s'", ["a", "=", "it's"]),
        ('"Odd ""name"""."x"', ['Odd "name"', ".", "x"]),
        (r"E'a\'b' x", [r"E'a\'b'", "x"]),
        ("$tag$ it's $other$ $tag$ = $$x$$", ["$tag$ it's $other$ $tag$", "=", "$$x$$"]),
        ("a -- comment ' \n + /* nested /* ' */ ' */ b", ["a", "+", "b"]),
        ("a->>'x'::text", ["a", "->>", "x", "::", "text"]),
        ("1.5e-3+x[1]", ["1.5e-3", "+", "x", "[", "1", "]"]),
        ("a=-1", ["a", "=", "-", "1"]),
        ("a<>ALL(b)", ["a", "<>", "all", "(", "b", ")"]),
        ("größe = U&'d\\0061t'", ["größe", "=", "U&'d\\0061t'"]),
        ("a@-b", ["a", "@-", "b"]),
        ("a=-- comment\n1", ["a", "=", "1"]),
        ("a</* comment */1", ["a", "<", "1"]),
        ("a -- to the carriage return\r|| b", ["a", "||", "b"]),
    ],
)
def test_tokens(text, values):
    """Literals, quoted names, comments and operators are cut as Postgres cuts them."""
    assert [token.value for token in tokenize(text)] == values


@pytest.mark.parametrize(
    "text", ["a = 'open", 'x = "open', "/* open", "a \\ b", "$x$ open", "a\x85b", "a\xa0b"]
)
def test_unreadable(text):
    """A text that is not understood is refused."""
    with pytest.raises(UnreadableError):
        tokenize(text)


@given(st.text(alphabet="ab'\"()$E\\-/* :.=>\n1", max_size=40))
def test_rendered_tokens_are_the_same_tokens(text):
    """What is read can be written and read again."""
    try:
        tokens = tokenize(text)
    except UnreadableError:
        return
    assert tokenize(render(tokens)) == tokens
