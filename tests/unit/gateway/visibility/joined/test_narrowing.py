"""gateway.visibility.joined.narrowing: what is demanded beside the policies' own conditions."""

from __future__ import annotations

import pytest

from gateway.visibility.joined.lexer import Token, render, tokenize
from gateway.visibility.joined.narrowing import Narrowing

NARROWING = Narrowing(
    frozenset({"team", "Odd name"}),
    table="docs",
    images="i",
    cannot_raise=lambda tokens: not any(token.text == "/" for token in tokens),
)
SUBQUERY = "( SELECT m.level FROM public.m WHERE ((m.who = claim) AND (m.team = docs.team)))"
ROW = "EXISTS ( SELECT FROM public.m WHERE ((m.who = claim) AND (m.team = docs.team)))"
JOINED = "FROM (public.p JOIN public.m ON ((m.team = p.team)))"


def read(text: str) -> list[Token]:
    """Read a text in which `claim` is a setting expression."""
    return [Token("setting", "0", "0") if t.is_word("claim") else t for t in tokenize(text)]


def squeezed(tokens: list[Token]) -> str:
    return render(tokens).replace(" ", "")


@pytest.mark.parametrize(
    ("text", "narrowed"),
    [
        (f"({SUBQUERY} > 0)", f"({ROW}) AND (({SUBQUERY} > 0))"),
        (f"(docs.need <= {SUBQUERY})", f"({ROW}) AND ((docs.need <= {SUBQUERY}))"),
        (SUBQUERY, f"({ROW}) AND ({SUBQUERY})"),
        (f"(a AND (b OR ({SUBQUERY} = 'x'::text)))",
         f"(a) AND ((b) OR (({ROW}) AND (({SUBQUERY} = 'x'::text))))"),
        (f"(team IN ( SELECT p.id {JOINED} WHERE (m.who = claim)))",
         (f"team IN ( SELECT p.id {JOINED} WHERE ((m.who = claim)) AND "
         '((p.id IN (SELECT i."team" FROM i)) IS TRUE))')),
        (f'(docs."Odd name" IN ( SELECT p.id {JOINED}))',
         (f'docs."Odd name" IN ( SELECT p.id {JOINED} WHERE '
         '((p.id IN (SELECT i."Odd name" FROM i)) IS TRUE))')),
        ("(team IN ( SELECT p.id FROM public.p, public.m))",
         ('team IN ( SELECT p.id FROM public.p, public.m WHERE ((p.id IN (SELECT i."team" FROM i)) '
         "IS TRUE))")),
    ],
)  # fmt: skip
def test_what_follows_is_demanded_too(text: str, narrowed: str) -> None:
    """A subquery that is compared has a row; a value that counts is one that an image has."""
    assert squeezed(NARROWING.narrowed(read(text))) == squeezed(read(narrowed))


@pytest.mark.parametrize(
    "text",
    [
        "team",
        "(team = claim)",
        "((team = claim) AND (a OR b))",
        f"(NOT ({SUBQUERY} > 0))",
        f"(({SUBQUERY} > 0) IS NOT TRUE)",
        f"({SUBQUERY} + 1)",
        f"({SUBQUERY} > 0 > 1)",
        f"({SUBQUERY} > (1 / id))",
        f"(COALESCE({SUBQUERY}, 1) > 0)",
        f"(({SUBQUERY} + 1) > 0)",
        "(( SELECT m.level FROM public.m WHERE (m.team = docs.team)) > 0)",
        "(( SELECT count(*) AS count FROM public.m WHERE (m.who = claim)) > 0)",
        "(( SELECT lower(m.x) AS lower FROM public.m WHERE (m.who = claim)) > 'a'::text)",
        "(( SELECT m.level FROM public.m WHERE (m.who = claim) LIMIT 1) > 0)",
        "(( SELECT m.level FROM public.m GROUP BY m.level HAVING (m.level = claim)) > 0)",
        "(( SELECT claim) > 0)",
        "((VALUES (claim)) > 0)",
        "(team IN ( SELECT m.team FROM public.m WHERE (m.who = claim)))",
        f"(other IN ( SELECT p.id {JOINED} WHERE (m.who = claim)))",
        f"((team + 1) IN ( SELECT p.id {JOINED} WHERE (m.who = claim)))",
        f"(team IN ( SELECT (p.id + 1) {JOINED} WHERE (m.who = claim)))",
        f"(team IN ( SELECT p.id {JOINED} WHERE (m.who = claim) ORDER BY p.id LIMIT 3))",
        f"(team IN ( SELECT p.id {JOINED} UNION SELECT 1))",
        "(team IN (VALUES (claim), (1)))",
        "(team IN (1, 2) IS TRUE)",
        "(team IN)",
        "(a AND)",
        "(team = )",
    ],
)
def test_what_is_not_known_stays(text: str) -> None:
    """Where NULL and false differ, or the subquery is of another kind, nothing is added."""
    assert NARROWING.narrowed(read(text)) == read(text)
