"""gateway.visibility.joined.closed_expressions: what reads nothing of the row, qualified."""

from __future__ import annotations

import pytest

from gateway.visibility.joined.closed_expressions import Setting, read_closed
from gateway.visibility.joined.lexer import UnreadableError, tokenize


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("lower('x'::text)", "pg_catalog.lower('x'::pg_catalog.text)"),
        ("public.f(auth.uid(), 1)", "public.f(auth.uid(), 1)"),
        ("(a.f() OR (NOT (1 = 2)))", "(a.f() OR (NOT (1 OPERATOR(pg_catalog.=) 2)))"),
        ("(1 IN ( SELECT a.f() AS f))", "(1 OPERATOR(pg_catalog.=) ANY (SELECT a.f() AS f))"),
        ("COALESCE(a.f(), true)", "COALESCE(a.f(), true)"),
        ("NULLIF(a.f(), ''::text)", "NULLIF(a.f(), ''::pg_catalog.text)"),
        ("NULLIF(a.f(), '')", "NULLIF(a.f(), '')"),
        ("CASE WHEN a.f() THEN 1 ELSE 2 END", "CASE WHEN a.f() THEN 1 ELSE 2 END"),
        ("ARRAY[a.f()]", "ARRAY[a.f()]"),
        ("(a.f()).x", "(a.f()).x"),
        ("pg_catalog.lower(a.f())", "pg_catalog.lower(a.f())"),
        ("CAST(a.f() AS uuid)", "CAST(a.f() AS pg_catalog.uuid)"),
        ("current_setting('a.b'::text, true)", "pg_catalog.current_setting('a.b', true)"),
        ("pg_catalog.current_setting('a.b', false)", "pg_catalog.current_setting('a.b')"),
        ("(CURRENT_USER = 'x'::name)",
         "(CURRENT_USER OPERATOR(pg_catalog.=) 'x'::pg_catalog.name)"),
        (
            "( SELECT count(*) AS count FROM public.a x WHERE x.y)",
            "(SELECT pg_catalog.count(*) AS count FROM public.a x WHERE x.y)",
        ),
        (
            ("(EXISTS ( SELECT FROM (public.a LEFT JOIN public.b z ON ((a.y = z.y))), c.f(1) g(h) "
            "GROUP BY z.y HAVING (z.y > 1) ORDER BY a.y DESC LIMIT 1))"),
            ("(EXISTS (SELECT FROM (public.a LEFT JOIN public.b z "
            "ON ((a.y OPERATOR(pg_catalog.=) z.y))), c.f(1) g(h) GROUP BY z.y "
            "HAVING (z.y OPERATOR(pg_catalog.>) 1) ORDER BY a.y DESC LIMIT 1))"),
        ),
        (
            ("( SELECT DISTINCT q.y FROM ( SELECT r.y FROM public.r UNION ALL SELECT s.y "
            'FROM public.s) q CROSS JOIN "Odd"."T" "U" WHERE ("U".y = q.y))'),
            ("(SELECT DISTINCT q.y FROM (SELECT r.y FROM public.r UNION ALL SELECT s.y "
            'FROM public.s) q CROSS JOIN "Odd"."T" "U" WHERE ("U".y OPERATOR(pg_catalog.=) q.y))'),
        ),
    ],
)  # fmt: skip
def test_qualified(text, sql):
    """Operators, functions and types of pg_catalog are named with it; nothing else changes."""
    assert tokenize(read_closed(tokenize(text)).sql) == tokenize(sql)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "(a = a.f())",
        "x.a",
        "( SELECT x.a FROM public.b y)",
        "( SELECT b)",
        "(a.f() IS DISTINCT FROM 1)",
        "CASE a.f() WHEN 1 THEN 2 END",
        "NULLIF(a.f(), 1)",
        "ROW(a.f(), 1)",
        "(a.f() COLLATE \"C\")",
        "a.f()::numeric(3,1)",
        "CAST(a.f() AS regclass)",
        "a.b.f()",
        "a.b.c",
        "(a.f()).*",
        "x.*",
        "current_setting(a.f())",
        "current_setting('a.b'::text, a.f())",
        "( SELECT 1 FROM a)",
        "( SELECT 1 FROM public.a JOIN public.b USING (x))",
        "( SELECT 1 FROM public.a TABLESAMPLE system (1))",
        "( SELECT 1 FROM (public.a WHERE))",
        "( SELECT 1 FROM ( SELECT 2))",
        "( SELECT 1 FROM a.f() g(h 1))",
        "( SELECT 1 FROM public.1)",
        "( SELECT 1 FROM 1)",
        "(a.f() ; 1)",
    ],
)  # fmt: skip
def test_not_closed(text):
    """What reads the row, or cannot be qualified, is not closed."""
    with pytest.raises(UnreadableError):
        read_closed(tokenize(text))


def test_facts():
    """What a closed expression calls, reads and depends on is known."""
    closed = read_closed(tokenize(
        "(lower(current_setting('A.b'::text)) = ANY (ARRAY( SELECT upper(m.x) "
        "FROM public.m WHERE public.f(m.x)))) OR auth.g() OR current_setting('c', true) IS NULL"
    ))  # fmt: skip
    assert closed.calls == {("public", "f"), ("auth", "g")}
    assert closed.bare_calls == {("auth", "g")}
    assert closed.builtins == {"lower", "upper"}
    assert closed.bare_builtins == {"lower"}
    assert closed.tables == {"public.m"}
    assert closed.settings == (Setting("A.b", False), Setting("c", True))
    assert closed.is_timeless
    assert not closed.reads_session


@pytest.mark.parametrize(
    ("text", "is_timeless", "reads_session"),
    [
        ("(a.f())::timestamp with time zone", False, False),
        ("CAST(a.f() AS date)", False, False),
        ("(a.f() < CURRENT_DATE)", False, False),
        ("(a.f() = CURRENT_USER)", True, True),
        ("(a.f())::interval", True, False),
    ],
)
def test_clock_and_session(text, is_timeless, reads_session):
    """Dates and times in texts may mean now; a role is the session's."""
    closed = read_closed(tokenize(text))
    assert closed.is_timeless is is_timeless
    assert closed.reads_session is reads_session
