"""gateway.visibility.joined.expressions: operands, types and splitting."""

from __future__ import annotations

import pytest

from gateway.visibility.joined.expressions import (
    may_start,
    operand_end,
    places_of_tables,
    qualified_type,
    split,
    type_end,
)
from gateway.visibility.joined.lexer import UnreadableError, render, tokenize


@pytest.mark.parametrize(
    ("text", "word", "parts"),
    [
        ("(a OR (b AND c))", "or", ["a", "( b AND c )"]),
        ("((a OR b))", "or", ["a", "b"]),
        ("(a) OR (b)", "or", ["( a )", "( b )"]),
        ("CASE WHEN x OR y THEN a ELSE b END", "or", ["CASE WHEN x OR y THEN a ELSE b END"]),
        ("(a = ANY (ARRAY[(b OR c)]))", "or", ["a = ANY ( ARRAY [ ( b OR c ) ] )"]),
        ("('x OR y' = \"or\")", "or", ["'x OR y' = \"or\""]),
        ("(a AND b AND (c OR d))", "and", ["a", "b", "( c OR d )"]),
    ],
)
def test_split(text, word, parts):
    """A condition falls apart at its top level only."""
    assert [render(part) for part in split(tokenize(text), word)] == parts


@pytest.mark.parametrize("text", ["(a OR b", "a OR", "a)"])
def test_no_split(text):
    """What is not a whole condition is refused."""
    with pytest.raises(UnreadableError):
        split(tokenize(text), "or")


@pytest.mark.parametrize(
    ("text", "operand"),
    [
        ("a = b", "a"),
        ("(a = b)::text = c", "(a = b)::text"),
        ("auth.uid() = a", "auth.uid()"),
        ("x.f(a)[1].y::numeric(10,2)[] = b", "x.f(a)[1].y::numeric(10,2)[]"),
        ("(f()).x = 1", "(f()).x"),
        ("CASE WHEN CASE WHEN a THEN b END THEN c END = d",
         "CASE WHEN CASE WHEN a THEN b END THEN c END"),
        ("ARRAY[a, b] = c", "ARRAY[a, b]"),
        ("'x'::timestamp with time zone = c", "'x'::timestamp with time zone"),
        ("x::double precision = c", "x::double precision"),
        ("x::public.state = c", "x::public.state"),
        ("1 = a", "1"),
        ("t.a[1] = b", "t.a[1]"),
    ],
)  # fmt: skip
def test_operands(text, operand):
    """An operand ends before the operator behind it, and has its casts and subscripts."""
    tokens = tokenize(text)
    assert tokens[: operand_end(tokens, 0)] == tokenize(operand)


@pytest.mark.parametrize("text", ["(a", "CASE WHEN a", "f(a"])
def test_operands_without_an_end(text):
    """What does not end is refused."""
    with pytest.raises(UnreadableError):
        operand_end(tokenize(text), 0)


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("text", "pg_catalog.text"),
        ("Timestamp With Time Zone[]", "pg_catalog.timestamptz[]"),
        ("public.state", "public.state"),
        ('"Odd schema"."Size"[]', '"Odd schema"."Size"[]'),
        ("numeric(10,2)", None),
        ("regclass", None),
        ('"char"', None),
    ],
)
def test_types(text, type_):
    """A type is written so that no search path bends it, or is not known."""
    tokens = tokenize(text)
    assert qualified_type(tokens) == type_
    assert type_end(tokens, 0) == len(tokens)


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("(a = (b))", ["( a = ( b ) )", "a", "( b )", "b"]),
        ("f((a), x.y)::text", ["f ( ( a ) , x . y ) :: text", "( a )", "a", "x . y"]),
        ("(a IN (b))", ["( a IN ( b ) )", "a", "b"]),
    ],
)
def test_starts(text, starts):
    """An operand starts neither within a name, nor at the arguments of a call."""
    tokens = tokenize(text)
    found = [
        render(tokens[n : operand_end(tokens, n)])
        for n in range(len(tokens))
        if (tokens[n].kind == "name" or tokens[n].is_mark("("))
        and not tokens[n].is_word("in")
        and may_start(tokens, n)
    ]
    assert found == starts


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("(SELECT 1 FROM public.a x WHERE (x.y = f()))", "public . a x WHERE"),
        ("(SELECT f() FROM a.g(1) x, (a.b JOIN c.d ON ((b.e = f()))) LIMIT 1)",
         "a . g ( x , ( a . b JOIN c . d ON ( ) LIMIT"),
        ("(SELECT 1 FROM (SELECT f() AS me) x)", "( x )"),
        ("(extract(year FROM now()))", ""),
        ("f()) AND (g()) FROM a.b", ""),
    ],
)  # fmt: skip
def test_places_of_tables(text, tables):
    """Tables stand behind FROM; arguments, conditions and subqueries in it are expressions."""
    tokens = tokenize(text)
    assert render([tokens[n] for n in sorted(places_of_tables(tokens))]) == tables
