"""gateway.visibility.joined.semijoins: an EXISTS as the set of what a column must equal."""

from __future__ import annotations

import pytest

from gateway.visibility.joined.lexer import UnreadableError, tokenize
from gateway.visibility.joined.semijoins import read_semijoin


@pytest.mark.parametrize(
    ("text", "sql", "column"),
    [
        ("EXISTS ( SELECT FROM public.m WHERE (m.a = t.b))",
         "(SELECT m.a FROM public.m WHERE (true))", "b"),
        ("EXISTS ( SELECT 1 FROM public.m WHERE ((t.b = lower(m.a)) AND (m.c = a.f()) AND m.d))",
         ("(SELECT pg_catalog.lower(m.a) FROM public.m WHERE (true AND "
         "((m.c OPERATOR(pg_catalog.=) a.f())) AND (m.d)))"), "b"),
        ('EXISTS ( SELECT FROM (public.m JOIN public.n ON ((m.x = n.x))) WHERE (t."B c" = n.y))',
         ("(SELECT n.y FROM (public.m JOIN public.n ON ((m.x OPERATOR(pg_catalog.=) n.x))) "
         "WHERE (true))"), "B c"),
    ],
)  # fmt: skip
def test_read(text, sql, column):
    """The equation's other side is selected under the remaining conditions."""
    found = read_semijoin(tokenize(text), "t")
    assert found is not None
    assert tokenize(found[0].sql) == tokenize(sql)
    assert found[1] == column


@pytest.mark.parametrize(
    "text",
    [
        "lower(a)",
        "EXISTS ( SELECT FROM public.m WHERE (m.a = 1))",
        "EXISTS ( SELECT FROM public.m WHERE (m.a > t.b))",
        "EXISTS ( SELECT FROM public.m WHERE (m.a = (t.b + 1)))",
        "EXISTS ( SELECT FROM public.m WHERE ((m.a = t.b) AND (m.c = t.d)))",
        "EXISTS ( SELECT FROM public.m WHERE ((m.a = t.b) OR m.c))",
        "EXISTS ( SELECT FROM public.m WHERE (m.a = t.b = t.c))",
        "EXISTS ( SELECT FROM public.m WHERE (NOT (m.a = t.b)))",
        "EXISTS ( SELECT FROM public.m WHERE (m.a = u.b))",
    ],
)
def test_not_read(text):
    """What is tied to the row by anything but one equation is left alone."""
    assert read_semijoin(tokenize(text), "t") is None


@pytest.mark.parametrize(
    "text",
    [
        "EXISTS ( SELECT FROM public.m)",
        "EXISTS ( SELECT 1 WHERE (1 = t.b))",
        "EXISTS ( SELECT FROM public.m WHERE (m.a = t.b) LIMIT 0)",
        "EXISTS ( SELECT FROM public.m WHERE (m.a = t.b) UNION SELECT FROM public.n)",
        "EXISTS ( SELECT FROM public.m WHERE (t.b = t.c))",
        "EXISTS ( SELECT count(*) AS count FROM public.m WHERE (m.a = t.b))",
        "EXISTS ( SELECT 1, unnest(m.c) AS c FROM public.m WHERE (m.a = t.b))",
    ],
)
def test_unreadable(text):
    """Other clauses, calls before FROM, and equations between columns of the row."""
    with pytest.raises(UnreadableError):
        read_semijoin(tokenize(text), "t")
