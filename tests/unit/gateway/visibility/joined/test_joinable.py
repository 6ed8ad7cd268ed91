"""gateway.visibility.joined: which policies can be joined, and the statement for them."""

from __future__ import annotations

import pytest

from gateway.visibility.joined.joinable import NotJoinableError, join
from gateway.visibility.joined.lexer import render
from gateway.visibility.joined.statement import (
    given_expression,
    key_expression,
    key_query,
    value_query,
)
from gateway.visibility.rules import Policy, Relation, Type
from tests.unit.gateway.visibility.joined.facts import BUILTINS, USER, function, rules


def statement(text, *, types=("pg_catalog.uuid",), **facts):
    return join(rules(text, **facts), BUILTINS).write(types)


def test_wrapped_policy_is_joined_by_its_setting():
    """`(SELECT auth.uid())` reads the setting that the function wraps."""
    draft = join(
        rules("(author_id = ( SELECT auth.uid() AS uid))", functions=(function(),)), BUILTINS
    )
    assert draft.reads == ("ayb.user_id",)
    assert "auth ." not in draft.write(["pg_catalog.uuid"])


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"functions": (function(volatility="v", body=None),)}, "VOLATILE"),
        ({"functions": (function(executable=False),)}, "may not be executed"),
        ({"functions": (function(set=True),)}, "something of the row, or stands in FROM"),
        ({"types": (Type("public.citext", "b"),)}, "uses the type"),
        ({"operators": ("public",)}, "uses an operator"),
        ({"others": ("pg_ts_config",)}, "depends on an object"),
    ],
)
def test_dependencies_that_need_the_loop(facts, reason):
    """What a policy depends on decides for the loop, and the reason is kept."""
    with pytest.raises(NotJoinableError, match=reason):
        join(rules("(author_id = auth.uid())", **facts), BUILTINS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(random() < (0.5)::double precision)", "calls random"),
        ("(public.f(id))", "calls f"),
        ("(posts.* IS NOT NULL)", "a whole row"),
        ("((ctid)::text = ''::text)", "ctid"),
        ("(CURRENT_SCHEMA = 'x'::name)", "current_schema"),
        ("(((title)::regclass)::oid = id)", "regclass"),
        ("(title OPERATOR(public.=) 'x'::text)", "operator"),
        ("(current_setting(title) = 'x'::text)", "not named plainly"),
        ("EXISTS ( SELECT FROM members m TABLESAMPLE system (10))", "tablesample"),
        ('("random"() < 1)', "calls"),
    ],
)
def test_texts_that_need_the_loop(text, reason):
    """What another session could see otherwise decides for the loop."""
    with pytest.raises(NotJoinableError, match=reason):
        join(rules(text), BUILTINS)


@pytest.mark.parametrize(("kind", "secured"), [("r", True), ("v", False)])
@pytest.mark.parametrize("name", ["m", '"Odd name"'])
def test_tables_out_of_reach(name, kind, secured):
    """A view, or a table with RLS of its own, must not be read for all users at once."""
    text = f"(EXISTS ( SELECT FROM public.{name} WHERE ({name}.id > posts.id)))"
    facts = {"relations": (Relation(f"public.{name}", kind, secured),)}
    with pytest.raises(NotJoinableError, match="a view or has RLS itself"):
        join(rules(text, **facts), BUILTINS)
    closed = f"(id IN ( SELECT {name}.id FROM public.{name}))"
    [expression] = join(rules(closed, **facts), BUILTINS).expressions
    assert expression.is_set
    assert not expression.is_kept


def test_semijoin():
    """An EXISTS out of reach that one equation ties to the row is asked for as a set."""
    text = "(EXISTS ( SELECT m.x FROM public.m WHERE ((m.post = posts.id) AND (m.x = auth.uid()))))"
    draft = join(
        rules(text, relations=(Relation("public.m", "r", True),), functions=(function(),)), BUILTINS
    )
    assert draft.keys == ("id",)
    written = draft.write(["pg_catalog._int8"])
    assert '( posts . "id" = ANY ( ayb0c.ayb0k0 ) ) IS TRUE' in written
    [expression] = draft.expressions
    query = value_query([(expression, "pg_catalog._int8")], {"id": "pg_catalog._int8"})
    assert "ANY (($1[1])::pg_catalog._int8)" in query
    assert 'ayb_r."id" AS ayb_k0' in key_query(draft.rules, draft.keys)
    assert "NULL::" in key_expression(draft.rules, "id")


def test_a_function_that_is_given_columns():
    """A function that reads other tables only has a value for each combination of its columns."""
    on_team = function(
        schema="public", name="on_team", arguments=2, body=None, language="plpgsql", is_known=True
    )
    draft = join(rules("public.on_team(id, title)", functions=(on_team,)), BUILTINS)
    [expression] = draft.expressions
    assert draft.tuples == (("id", "title"),)
    assert expression.is_array
    assert not expression.is_set
    assert 'ayb_r."id" AS c0, ayb_r."title" AS c1' in given_expression(draft.rules, expression)


@pytest.mark.parametrize("argument", ["(random())::text", "public.other(id)", "public.posts.*"])
def test_a_function_that_is_given_more(argument):
    """Its arguments call nothing that is not known, and are not the whole row."""
    on_team = function(
        schema="public", name="on_team", arguments=2, body=None, language="plpgsql", is_known=True
    )
    with pytest.raises(NotJoinableError, match="given something of the row"):
        join(rules(f"public.on_team(id, {argument})", functions=(on_team,)), BUILTINS)


def test_views_of_the_catalog():
    """A view in pg_catalog is named without its schema, and out of reach as well."""
    facts = {"relations": (Relation("pg_catalog.pg_settings", "v", False),)}
    with pytest.raises(NotJoinableError, match="a view"):
        join(
            rules("(EXISTS ( SELECT FROM pg_settings s WHERE (s.name = title)))", **facts), BUILTINS
        )


def test_the_table_itself():
    """A policy that reads its own table is left to another form."""
    text = "(EXISTS ( SELECT FROM public.posts posts_1 WHERE (posts_1.id = posts.author_id)))"
    with pytest.raises(NotJoinableError):
        join(rules(text), BUILTINS)


def test_split_only_where_nothing_can_raise():
    """An OR is split if no arm can raise; else the condition stays in one piece."""
    fine = statement(f"(published OR (author_id = ({USER})::uuid))")
    assert fine.count("published") == 3  # as a column of the row twice, and in its own part
    loud = statement(f"(((10 / id) > 2) OR (author_id = ({USER})::uuid))")
    assert "10 / id ) > 2 ) OR (" in loud


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("(published OR (title = 'x'::text))", 3),
        ("(published OR (id = (1)::bigint))", 1),
        ("(published OR ((id)::text = 'x'::text))", 3),
        ("(published OR ((title)::integer = 1))", 1),
        ("(published OR (lower(title) = 'x'::text))", 3),
        ("(published OR (jsonb_array_elements_text(title) = 'x'::text))", 1),
        ("(published OR (EXISTS ( SELECT FROM public.m WHERE (m.x = posts.id))))", 3),
        ("(published OR (id = ( SELECT m.x FROM public.m WHERE (m.y = posts.id))))", 1),
        ("( SELECT m.x FROM public.m WHERE (m.y = posts.id))", 1),
        (
            "(published OR (( SELECT count(*) AS count FROM public.m WHERE (m.y = posts.id)) > 0))",
            3,
        ),
        ("(published OR (id = ( SELECT COALESCE(max(m.x), 1) FROM public.m)))", 3),
        ("(published OR (id IN ( SELECT m.x FROM public.m UNION SELECT m.y FROM public.m)))", 1),
        ("(published OR (id = ( SELECT max(m.x) FROM public.m GROUP BY m.y)))", 1),
        ("(published OR (id = ( SELECT max(m.x) FROM public.m UNION SELECT m.y FROM m)))", 1),
        ("(published OR (id = ( SELECT ( SELECT max(n.x) FROM public.n) FROM public.m)))", 1),
        ("(published OR (id = ( SELECT 1 FROM public.m WHERE (m.count = m.y))))", 1),
    ],
)
def test_which_conditions_are_split(text, parts):
    """Casts of columns, unknown functions and scalar subqueries may raise: nothing is split."""
    assert len(join(rules(text, "(id = 1)"), BUILTINS).parts) == parts


def test_limits_stand_before_what_may_raise():
    """Where a policy may raise all of them are one condition, restrictive policies first."""
    draft = join(
        rules(
            "((10 / id) > 2)",
            "published",
            Policy(name="r", permissive=False, expression="(id <> 0)"),
        ),
        BUILTINS,
    )
    assert draft.limits == ()
    [part] = draft.parts
    assert render(part) == "( ( id <> 0 ) ) AND ( ( published ) OR ( ( ( 10 / id ) > 2 ) ) )"


def test_enums_are_joined():
    """An enum type has no code of its own, unlike a domain or a base type."""
    facts = {"types": (Type("public.state", "e"),)}
    assert len(join(rules("(title = 'x'::public.state)", **facts), BUILTINS).parts) == 1


def test_nothing_of_the_client():
    """Policies that read the row alone need no cohorts: an image is visible to all or to none."""
    text = statement("published", types=())
    assert "$1" not in text
    assert text.endswith(
        "SELECT 1, pg_catalog.array_agg(ayb0n), NULL::int4[] FROM ayb0o WHERE ayb0open"
    )


def test_answers_without_pairs():
    """What reads the row or the cohort alone, or their product, is never asked of each pair."""
    text = statement(
        f"(published OR ({USER} = 'admin'::text) OR "
        f"((title = 'x'::text) AND ({USER} = 'y'::text)))",
        types=("pg_catalog.bool", "pg_catalog.bool"),
    )
    answers = text.split("WHERE true)\n")[-1].split("UNION ALL")
    assert [answer.rsplit(" FROM ", 1)[1].strip() for answer in answers] == [
        "ayb0o WHERE ayb0open",
        "ayb0o WHERE true",
        "ayb0o WHERE ayb0p0",
    ]
    for answer, cohorts in zip(answers, ("true", "ayb0sees", "ayb0p0"), strict=True):
        assert f"ARRAY(SELECT ayb0n FROM ayb0d WHERE {cohorts})" in answer
    assert "CROSS JOIN ayb0d" not in text


def test_pairs_leave_out_what_is_seen_anyway():
    """Images that are open to all, and cohorts that see all, are not paired again."""
    text = statement(f"(published OR (author_id = ({USER})::uuid))").replace(" ", "")
    assert 'WHERENOT"posts".ayb0openAND((author_id=ayb0c.ayb0k0))' in text


def test_kept_values_come_grouped():
    """Without computed values there is one row for each group that the gateway made."""
    text = statement(f"(author_id = ({USER})::uuid)")
    assert "$2" not in text
    assert "GROUP BY ayb0r" not in text


def test_computed_values_are_grouped():
    """Computed values make groups in the statement, beside kept ones."""
    plain = function(schema="public", name="mine", body=None)
    text = statement(
        "((author_id = auth.uid()) AND (title = public.mine()))",
        types=("pg_catalog.uuid", "pg_catalog.text"),
        functions=(function(), plain),
    )
    assert "GROUP BY ayb0r.ayb0t0, ayb0r.ayb0t1" in text
    assert "SELECT 3, ARRAY[" in text


def test_row_and_cohort_and_both():
    """Limits and parts are asked of rows, of cohorts, or of pairs, as they read them."""
    limited = rules(
        "((title = 'x'::text) AND (public.mine() = 1))",
        Policy(name="r1", permissive=False, expression="(title <> 'spam'::text)"),
        Policy(name="r2", permissive=False, expression=f"({USER} <> ''::text)"),
        Policy(name="r3", permissive=False, expression=f"(author_id <> ({USER})::uuid)"),
        functions=(function(schema="public", name="mine", body=None),),
    )
    draft = join(limited, BUILTINS)
    text = draft.write([f"pg_catalog.t{n}" for n in range(len(draft.expressions))])
    assert "AS ayb0p0" in text
    assert "( author_id <> ayb0c.ayb0k" in text


def test_what_a_table_needs_not_is_left_out():
    """For a policy on pairs alone, images are joined with groups; few are listed as they are."""
    own = f"(author_id = (({USER})::uuid))"
    draft = join(rules(own), BUILTINS)
    text = draft.write(["pg_catalog.uuid"], lists_rest=False)
    assert 'FROM ayb0i AS "posts" CROSS JOIN ayb0a AS ayb0c WHERE ' in text
    for name in ("ayb0o", "ayb0d", "ayb0open", "ayb0sees", "EXCEPT", "UNION"):
        assert name not in text
    assert "EXCEPT" in draft.write(["pg_catalog.uuid"])
    two = join(rules(f"({own} OR (title = ({USER})))"), BUILTINS)
    text = two.write(["pg_catalog.uuid", "pg_catalog.text"], lists_rest=False)
    assert " UNION SELECT" in text
    assert "EXCEPT" not in text


def test_value_queries():
    """Values are written as one array of texts: sets as arrays, times as JSON has them."""
    draft = join(
        rules("((id IN ( SELECT public.mine() AS mine)) AND (title = public.mine()))",
              functions=(function(schema="public", name="mine", body=None),)),
        BUILTINS,
    )  # fmt: skip
    one, other = draft.expressions
    text = value_query([(one, "pg_catalog._int4"), (other, "pg_catalog.timestamptz")])
    assert text.startswith("SELECT (ARRAY[(ARRAY( SELECT public.mine")
    assert "pg_catalog.to_json(public.mine" in text
    text = value_query([(one, "pg_catalog._float8")])
    assert "AS MATERIALIZED (SELECT ARRAY( SELECT public.mine" in text
    assert "set_config('extra_float_digits', '1', true)" in text


def test_an_array_that_a_function_is_given_is_read_with_its_nulls():
    """Where a setting would change the value, reading it raises."""
    on_team = function(
        schema="public", name="on_team", arguments=1, body=None, language="plpgsql", is_known=True
    )
    [expression] = join(rules("public.on_team(title)", functions=(on_team,)), BUILTINS).expressions
    for type_, is_array in (("pg_catalog._text", True), ("pg_catalog.text", False)):
        text = value_query([(expression, "pg_catalog._bool")], {}, {"title": type_})
        assert ("ELSE 'array_nulls is off' END)::pg_catalog._text" in text) is is_array


def test_own_names_are_free():
    """The names in a statement avoid whatever the policy and the table use."""
    question = statement(f"(author_id = (({USER})::uuid)) AND (ayb0c.ayb1x = title)")
    assert "ayb2n" in question
    assert "AS ayb0" not in question


def test_conditions_on_the_cohort_alone():
    """A subquery of one aggregate is asked for each cohort, whatever its columns are called; an
    aggregate of nothing but the client's values would be one of the whole statement.
    """

    def cohorts(counted: str) -> list[str]:
        second = Policy(
            name="second",
            permissive=False,
            expression=f"(1 < ( SELECT count({counted}) FROM public.f WHERE (f.title = {USER})))",
        )
        draft = join(rules("(author_id = auth.uid())", second, functions=(function(),)), BUILTINS)
        text = draft.write(["pg_catalog.uuid"] * len(draft.expressions))
        return [table for table in text.split(",\n") if table.startswith("ayb0d")]

    [judged] = cohorts("f.id")
    assert "count ( f . id )" in judged
    assert not cohorts(USER)


def test_pairs_are_narrowed_for_many_cohorts():
    """A subquery that is compared must have a row; few cohorts are asked about as it stands."""
    text = f"(( SELECT m.x FROM public.m WHERE ((m.y = posts.id) AND (m.z = {USER}))) > 0)"
    draft = join(rules(text), BUILTINS)
    assert "EXISTS ( SELECT FROM public . m WHERE" in draft.write(["pg_catalog.text"])
    assert "EXISTS" not in draft.write(["pg_catalog.text"], lists_rest=False)
