"""gateway.visibility.plan: the form in which a table is asked about."""

from __future__ import annotations

import msgspec
import pytest

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.plan import Form, make_plan
from gateway.visibility.rules import Column, Policy, Relation, Type
from tests.unit.gateway.visibility.joined.facts import BUILTINS, USER, function, rules

OWN = f"(author_id = ({USER})::uuid)"
LIMIT = Policy(name="r", permissive=False, expression="published")
GIVEN = function(schema="public", name="given", arguments=1, body=None)
TABLES = {
    Form.OPEN: rules(OWN, bypass=True),
    Form.CLOSED: rules(),
    Form.JOINED: rules(OWN),
    Form.LOOPED: rules("(title = 'x'::public.size)", types=(Type("public.size", "b"),)),
    Form.OPAQUE: rules(OWN, relations=(Relation("public.part", "r", False, kin=True),)),
}


def plan(found, **others):
    return make_plan(found, "f", BUILTINS, **others)


@pytest.mark.parametrize(
    ("found", "form", "reads", "reason"),
    [
        (TABLES[Form.OPEN], Form.OPEN, (), None),
        (TABLES[Form.CLOSED], Form.CLOSED, (), None),
        (rules(policies=None), Form.CLOSED, (), None),
        (rules(LIMIT), Form.CLOSED, (), None),
        (TABLES[Form.JOINED], Form.JOINED, ("ayb.user_id",), None),
        (rules("published", LIMIT), Form.JOINED, (), None),
        (TABLES[Form.LOOPED], Form.LOOPED, KNOWN_SETTINGS, "a policy uses the type public.size"),
        (TABLES[Form.OPAQUE], Form.OPAQUE, KNOWN_SETTINGS,
         "a policy reads public.part, so the row as it is now"),
        (rules("public.given(id)", functions=(GIVEN,)), Form.OPAQUE, KNOWN_SETTINGS,
         "a policy calls public.given(), which may be given something of the row"),
    ],
)  # fmt: skip
def test_forms(found, form, reads, reason):
    """The fastest form that is certainly right is chosen; the reason says what excluded it."""
    made = plan(found)
    assert (made.form, made.reads, made.reason) == (form, reads, reason)
    assert (made.draft is not None) == (form is Form.JOINED)
    assert made.table == "public.posts"


def test_trusted_functions_are_given_columns():
    """A function that the operator trusts is joined where it can be, or else judged on images."""
    trusted = frozenset({"public.given"})
    made = plan(rules("public.given(id)", functions=(GIVEN,)), trusted=trusted)
    assert made.form is Form.JOINED
    assert made.draft is not None
    assert made.draft.tuples == (("id",),)
    lasting = msgspec.structs.replace(GIVEN, volatility="v")
    made = plan(rules("public.given(id)", functions=(lasting,)), trusted=trusted)
    assert made.form is Form.LOOPED
    assert made.reason is not None
    assert "public.given(), which is VOLATILE" in made.reason


@pytest.mark.parametrize(
    ("before", "without_join", "as_opaque"),
    [
        (Form.OPEN, Form.OPEN, Form.OPEN),
        (Form.CLOSED, Form.CLOSED, Form.CLOSED),
        (Form.JOINED, Form.LOOPED, Form.OPAQUE),
        (Form.LOOPED, Form.LOOPED, Form.OPAQUE),
        (Form.OPAQUE, Form.OPAQUE, Form.OPAQUE),
    ],
)
def test_slower_forms(before, without_join, as_opaque):
    """A plan falls back to a slower form only, and one that asks no policy stays as it is."""
    made = plan(TABLES[before])
    assert made.without_join("why").form is without_join
    assert made.as_opaque("why").form is as_opaque
    for other in (made.without_join("why"), made.as_opaque("why")):
        assert other is made or (other.reason, other.reads, other.draft) == (
            "why", KNOWN_SETTINGS, None,
        )  # fmt: skip


def test_without_join_is_opaque_where_a_loop_is_not_safe():
    """A function of the user that the joined form asks once must not be asked in a loop."""
    made = plan(rules("public.given(1)", functions=(GIVEN,)))
    assert made.form is Form.JOINED
    assert made.without_join("why").form is Form.OPAQUE
    assert made.without_join("why", frozenset({"public.given"})).form is Form.LOOPED


@pytest.mark.parametrize("body", ["SELECT current_setting('ayb.user_id')::uuid", "SELECT me()"])
def test_who_is_left_out_of_a_join_is_looped_where_a_loop_is_right(body):
    """A function whose names a loop may find elsewhere is left to a SELECT."""
    made = plan(rules("(author_id = auth.uid())", functions=(function(body=body),)))
    assert made.form is Form.JOINED
    assert made.selects_rest is (body == "SELECT me()")


def test_completed():
    """Types turn the draft into a statement, and queries for the values of either kind."""
    made = plan(
        rules(
            "((author_id = auth.uid()) AND (EXISTS ( SELECT FROM public.m "
            "WHERE ((m.post = posts.id) AND (m.x = auth.uid())))))",
            functions=(function(),),
            relations=(Relation("public.m", "r", True),),
        )
    ).completed(["pg_catalog.uuid", "pg_catalog._int8", "pg_catalog._int8"], ["a.b", None], {})
    assert made.draft is None
    assert made.question is not None
    assert made.kept == "SELECT (ARRAY[(auth.uid ( ))::pg_catalog.text])::pg_catalog.text"
    assert made.kept_values == 1
    assert made.computed is not None
    assert "ANY (($1[1])::pg_catalog._int8)" in made.computed
    assert len(made.computed_texts) == 1
    assert made.keys is not None
    assert 'ayb_r."id" AS ayb_k0' in made.keys
    assert made.others == ("a.b", None)


def test_completed_with_functions_of_the_row():
    """Each function is computed for each combination of columns that it is given."""
    known = {"schema": "public", "arguments": 1, "is_known": True, "body": None}
    made = plan(
        rules(
            "(public.one(id) OR public.two(title, id) OR public.one(author_id, 'x'::text))",
            functions=(function(name="one", **known), function(name="two", **known)),
        )
    )
    assert made.form is Form.JOINED
    assert made.draft is not None
    assert made.draft.tuples == (("id",), ("title", "id"), ("author_id",))
    assert made.draft.given == ("id", "title", "author_id")
    arrays = ["pg_catalog._bool"] * 3
    made = made.completed(
        [*arrays, "pg_catalog.int8", "pg_catalog.text", "pg_catalog.uuid"], [], {}
    )
    assert made.is_given
    assert made.computed_texts == (
        "public.one(id)", "public.two(title, id)", "public.one(author_id, 'x'::text)",
    )  # fmt: skip
    assert made.keys is not None
    assert made.keys.count("dense_rank") == 6
    assert made.computed is not None
    assert "->>) 1)::pg_catalog.int8 AS c1 FROM pg_catalog.json_array_elements(($1[4])" in (
        made.computed
    )
    assert made.question is not None
    assert 'ayb0c.ayb0k1 [ "posts".ayb0q1 ]' in made.question


def test_completed_with_columns_of_odd_names():
    """What is computed is shown with the columns' names as SQL has them."""
    known = function(schema="public", name="one", arguments=1, is_known=True, body=None)
    made = plan(
        rules(
            'public.one("x{0} ""y")',
            functions=(known,),
            columns=(Column(1, 'x{0} "y', True),),
        )
    ).completed(["pg_catalog._bool", "pg_catalog.text"], [], {})
    assert made.computed_texts == ('public.one("x{0} ""y")',)


OWN_TABLES = {
    "relations": (Relation("public.m", "r", False),),
    "nested_relations": (Relation("public.m", "r", False),),
    "nested_functions": (function(),),
    "own_operators": ("public",),
    "casts": True,
    "json_casts": True,
    "own_types": True,
}


def completed(policy=OWN, **facts):
    draft = plan(rules(policy, **{"own_types": False, **facts}))
    types = [] if draft.draft is None else ["pg_catalog.uuid"] * len(draft.draft.expressions)
    return draft.completed(types, [], {}) if draft.draft is not None else draft


def test_questions_that_run_only_builtins():
    """What policies call of the user's is computed once for a client, and not in the question."""
    made = completed()
    assert (made.asks_only_builtins, made.keeps_only_builtins) == (True, True)
    made = completed("(author_id = auth.uid())", functions=(function(),))
    assert (made.asks_only_builtins, made.keeps_only_builtins) == (True, False)


@pytest.mark.parametrize("fact", OWN_TABLES)
def test_questions_that_may_run_code_of_the_users(fact):
    """Whatever may bring code of the database's users along has the session reset."""
    made = completed(**{fact: OWN_TABLES[fact]})
    assert (made.asks_only_builtins, made.keeps_only_builtins) == (False, False)


@pytest.mark.parametrize("form", [Form.OPEN, Form.CLOSED, Form.LOOPED, Form.OPAQUE])
def test_other_forms_are_not_known_to_run_only_builtins(form):
    """They ask no joined question; nor does a plan whose statement is not written yet."""
    assert not plan(TABLES[form]).asks_only_builtins
    assert not plan(rules(OWN, own_types=False)).asks_only_builtins


def test_values_computed_in_the_question_may_run_code_of_the_users():
    """A function that is not known to depend on settings alone is called by the question."""
    made = completed("(author_id = auth.uid())", functions=(function(body=None),))
    assert made.computed is not None
    assert not made.asks_only_builtins
    trusted = plan(
        rules("public.given(id)", functions=(GIVEN,), own_types=False),
        trusted=frozenset({"public.given"}),
    ).completed(["pg_catalog._bool", "pg_catalog.int8"], [], {})
    assert trusted.question is not None
    assert not trusted.asks_only_builtins


def test_completed_without_values():
    """A policy that reads the row alone needs no query but the statement."""
    made = plan(rules("published")).completed([], [], {})
    assert made.question is not None
    assert (made.kept, made.kept_values, made.computed, made.keys) == (None, 0, None, None)
    assert made.computed_texts == ()
