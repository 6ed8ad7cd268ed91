"""gateway.visibility.opacity: tables that images cannot be judged for, and the reason."""

from __future__ import annotations

import pytest

from gateway.visibility.opacity import why_bound_late, why_certainly_opaque, why_opaque
from gateway.visibility.rules import Need, Relation, Type
from tests.unit.gateway.visibility.joined.facts import function, rules

FINE = "(author_id = 1)"
NAMING = function(schema="public", name="look", mentions=True)
GIVEN = function(schema="public", name="given", arguments=1)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, None),
        ({"relations": (Relation("public.m", "r", True),)}, None),
        ({"relations": (Relation("public.m", "p", False),)}, None),
        ({"relations": (Relation("public.m", "m", False),)}, None),
        ({"relations": (Relation("public.m", "c", False),)}, None),
        ({"relations": (Relation("public.m", "m", False, doubt="may read public.posts"),)},
         "a policy reads public.m, which may read public.posts"),
        ({"relations": (Relation("public.part", "r", False, kin=True),)},
         "a policy reads public.part, so the row as it is now"),
        ({"nested_relations": (Relation("public.part", "r", False, kin=True),)},
         "a policy reads public.part, so the row as it is now"),
        ({"relations": (Relation("public.w", "v", False),)},
         "public.w, which a policy reads, is not a plain table"),
        ({"nested_relations": (Relation("public.w", "f", False),)},
         "public.w, which a policy reads, is not a plain table"),
        ({"functions": (function(),)}, None),
        ({"functions": (function(), NAMING)},
         "a policy calls public.look(), which names the table, or leads to a copy of it"),
        ({"nested_functions": (NAMING,)},
         "a policy calls public.look(), which names the table, or leads to a copy of it"),
        ({"nested_types": ("public.odd",)},
         "the policy of another table uses public.odd, a type that calls functions"),
        ({"needs": (Need("id", "all"), Need("title", "opaque"))},
         "an image does not show what the value of title was"),
        ({"needs": (Need("id", "all"),)}, None),
        ({"casts": True}, "a policy reads a type with casts of its own"),
    ],
)  # fmt: skip
def test_dependencies_that_make_a_table_opaque(facts, reason):
    """The row as it is now must not decide, nor a value that an image does not show."""
    assert why_certainly_opaque(rules(FINE, **facts)) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FINE, None),
        ("(title = 'public.posts'::text)", None),
        ("(public.posts.author_id = 1)", None),
        ("(EXISTS ( SELECT FROM public.posts_old o WHERE (o.id = posts.id)))", None),
        ("(EXISTS ( SELECT FROM other.posts o WHERE (o.id = posts.id)))", None),
        ("(EXISTS ( SELECT FROM public.posts o WHERE (o.id = posts.id)))",
         "policy p0 reads the table itself"),
        ('(EXISTS ( SELECT FROM "public"."posts" o))', "policy p0 reads the table itself"),
        ("((title)::public.posts IS NULL)", "policy p0 reads the table itself"),
        ("(SELECT 1 FROM public.posts", "policy p0 reads the table itself"),
        ("(title = 'open", "policy p0: unexpected character at 9"),
    ],
)  # fmt: skip
def test_texts_that_make_a_table_opaque(text, reason):
    """A policy must not name its own table, and what cannot be read is taken for one that does."""
    assert why_certainly_opaque(rules(text)) == reason


@pytest.mark.parametrize(
    ("text", "is_bound_by_name"),
    [
        (FINE, False),
        ("CASE WHEN published THEN true ELSE false END", False),
        ("CASE title WHEN 'x'::text THEN true ELSE false END", True),
        ("(title IS DISTINCT FROM 'x'::text)", True),
        ("(NULLIF(title, 'x'::text) IS NULL)", True),
        ("(ROW(id, title) = ROW(1, 'x'::text))", True),
        ("(id IN ( SELECT m.id FROM public.m))", True),
        ("(EXISTS ( SELECT FROM (public.m JOIN public.n USING (id))))", True),
        ("(EXISTS ( SELECT FROM (public.m NATURAL JOIN public.n)))", True),
        ("(title = 'distinct'::text)", False),
        ("case", False),
    ],
)
def test_operators_that_the_text_does_not_show(text, is_bound_by_name):
    """With an operator outside of pg_catalog, a construct that hides its operator is not judged."""
    reason = "policy p0 may use an operator that its text does not show"
    assert why_certainly_opaque(rules(text)) is None
    assert why_certainly_opaque(rules(text, operators=("public",))) == (
        reason if is_bound_by_name else None
    )


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, None),
        ({"functions": (function(),)}, None),
        ({"functions": (function(), GIVEN)},
         "a policy calls public.given(), which may be given something of the row"),
        ({"nested_functions": (GIVEN,)},
         "a policy calls public.given(), which may be given something of the row"),
        ({"functions": (function(arguments=1, extension=True, volatility="i"),)}, None),
        ({"functions": (function(arguments=1, extension=True, volatility="s"),)},
         "a policy calls auth.uid(), which may be given something of the row"),
        ({"functions": (function(arguments=1, extension=True, volatility="i", definer=True),)},
         "a policy calls auth.uid(), which may be given something of the row"),
        ({"functions": (function(arguments=1, volatility="i"),)},
         "a policy calls auth.uid(), which may be given something of the row"),
        ({"functions": (function(arguments=1, is_known=True),)}, None),
        ({"nested_functions": (function(arguments=1, is_known=True),)}, None),
        ({"functions": (function(body="SELECT 1"),)},
         "a policy calls auth.uid(), whose body may be read by another search path in a loop"),
        ({"functions": (function(arguments=1, is_known=True, overloads=2),)},
         "a policy calls auth.uid(), which may be given something of the row"),
        ({"functions": (function(arguments=1, is_known=True, kind="a"),)},
         "a policy calls auth.uid(), which may be given something of the row"),
        ({"functions": (function(arguments=1, doubt="may read x"),)},
         "a policy calls auth.uid(), which may be given something of the row, and may read x"),
        ({"operators": ("public",)}, None),
        ({"own_operators": ("public",)}, "a policy uses an operator of the schema public"),
        ({"types": (Type("public.code", "d"),)}, None),
        ({"types": (Type("public.code", "d"), Type("public.odd", "d", calls=True))},
         "a policy uses the type public.odd, which calls functions"),
    ],
)  # fmt: skip
def test_dependencies_that_must_not_be_looped(facts, reason):
    """A function or operator of a user may look up the row that it is given something of."""
    assert why_opaque(rules(FINE, **facts)) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FINE, None),
        ("(title = 'ctid'::text)", None),
        ("((ctid)::text = title)", "policy p0 uses ctid"),
        ("(XMIN IS NOT NULL)", "policy p0 uses xmin"),
        ("(query_to_xml(title, true, true, ''::text) IS NULL)", "policy p0 uses query_to_xml"),
        ("(nextval('s'::regclass) > id)", "policy p0 uses nextval"),
        ("pg_input_is_valid(title, 'public.known'::text)", "policy p0 uses pg_input_is_valid"),
        ("((pg_input_error_info(title, 'x'::text)).message IS NULL)",
         "policy p0 uses pg_input_error_info"),
    ],
)  # fmt: skip
def test_texts_that_must_not_be_looped(text, reason):
    """System columns are no part of an image, and some functions of Postgres read tables."""
    assert why_opaque(rules(text)) == reason


BODY = "SELECT length('x') > 0"


@pytest.mark.parametrize(
    ("facts", "is_late"),
    [
        ({}, False),
        ({"body": BODY}, True),
        ({"body": None}, True),
        ({"body": BODY, "definer": True}, False),
        ({"body": BODY, "configured": True}, False),
        ({"body": BODY, "extension": True}, False),
        ({"body": BODY, "language": "plpgsql"}, False),
        ({"body": BODY, "language": "plpgsql", "volatility": "i"}, True),
        ({"body": BODY, "definer": True, "volatility": "i"}, True),
        ({"body": None, "language": "plperl"}, False),
    ],
)
def test_functions_whose_names_are_looked_up_while_planning(facts, is_late):
    """A body that is expanded, or a function that is called, while Postgres plans."""
    for of in ("functions", "nested_functions"):
        found = rules(FINE, **{of: (function(**facts),)})
        assert (why_bound_late(found) is not None) is is_late
        assert why_bound_late(found, frozenset({"auth.uid"})) is None


def test_trusted_functions():
    """The operator's word that a function needs only its arguments and settings is taken."""
    known = rules(FINE, functions=(NAMING, GIVEN))
    assert why_certainly_opaque(known, frozenset({"public.look"})) is None
    assert why_opaque(known, frozenset({"public.given"})) is None
    assert why_opaque(known, frozenset({"given"})) is not None
