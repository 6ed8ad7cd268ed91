"""gateway.visibility.joined.setting_expressions: what depends on the client and not on the row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.visibility.joined.lexer import UnreadableError, render, tokenize
from gateway.visibility.joined.setting_expressions import SettingCollector, read_wrapper
from tests.unit.gateway.visibility.joined.facts import BUILTINS, USER, function

UID = function()
ROLE = function(schema="public", name="has_role", language="plpgsql", arguments=2, body=None)
TEAMS = function(schema="public", name="my_teams", language="plpgsql", set=True, body=None)


def collect(text, *functions, unjoinable=()):
    collector = SettingCollector(
        BUILTINS, {(f.schema, f.name): f for f in functions}, frozenset(unjoinable)
    )
    tokens = collector.replace_in(tokenize(text))
    shown = " ".join(f"<{t.value}>" if t.kind == "setting" else t.text for t in tokens)
    return shown, collector.found


@pytest.mark.parametrize(
    ("text", "rest", "kept"),
    [
        (f"(author_id = ({USER})::uuid)", "( author_id = <0> )",
         "(current_setting('ayb.user_id'))::uuid"),
        ("(a = NULLIF(current_setting('ayb.user_id'::text, true), ''::text))", "( a = <0> )",
         "NULLIF(current_setting('ayb.user_id', true), ''::text)"),
        ("((((current_setting('request.jwt.claims'::text))::jsonb -> 'a'::text) ->> 0) = x)",
         "( <0> = x )", "(((current_setting('request.jwt.claims'))::jsonb -> 'a'::text) ->> 0)"),
        (f"(a = ( SELECT ({USER})::uuid AS x))", "( a = <0> )",
         "(SELECT (current_setting('ayb.user_id'))::uuid AS x)"),
        (f"(lower({USER}) = a)", "( <0> = a )", "lower(current_setting('ayb.user_id'))"),
        (f"(a = ANY (ARRAY[{USER}, b]))", "( a = ANY ( ARRAY [ <0> , b ] ) )",
         "current_setting('ayb.user_id')"),
        (f"(({USER})::varchar(3) = a)", "( ( <0> ) :: varchar ( 3 ) = a )",
         "current_setting('ayb.user_id')"),
        ("(current_setting('AYB.User_ID'::text) = b)", "( <0> = b )",
         "current_setting('AYB.User_ID')"),
        (("(a IN ( SELECT jsonb_array_elements_text((current_setting('request.jwt.claims'::text))"
         "::jsonb) AS x))"), "( a = ANY ( <0> ) )",
         "(SELECT jsonb_array_elements_text((current_setting('request.jwt.claims'))::jsonb) AS x)"),
        ("(a <> ALL ( SELECT auth.uid() AS uid))", "( a <> ALL ( <0> ) )",
         "(SELECT auth.uid() AS uid)"),
        ("((auth.uid() IS NOT NULL) AND b)", "( <0> AND b )", "(auth.uid() IS NOT NULL)"),
        ("(EXISTS ( SELECT FROM public.m WHERE (m.x = auth.uid())))",
         "( EXISTS ( SELECT FROM public . m WHERE ( m . x = <0> ) ) )", "auth.uid()"),
        ("(EXISTS ( SELECT FROM ( SELECT auth.uid() AS me) x WHERE (x.me = a)))",
         "( EXISTS ( SELECT FROM ( SELECT <0> AS me ) x WHERE ( x . me = a ) ) )", "auth.uid()"),
    ],
)  # fmt: skip
def test_kept(text, rest, kept):
    """What is computed from settings alone is kept, the largest part of it as one."""
    shown, [found] = collect(text, UID)
    assert shown == rest
    assert found.is_kept
    without = [t for t in tokenize(found.sql) if t.value not in ("pg_catalog", "OPERATOR")]
    assert render(without).replace(". ", "").replace("OPERATOR ( -> )", "->").replace(
        "OPERATOR ( ->> )", "->>"
    ) == render(tokenize(kept)).replace(". ", "").replace("auth uid", "auth uid")


@pytest.mark.parametrize(
    ("text", "rest", "computed"),
    [
        ("(public.has_role(auth.uid(), 'admin'::text) OR (author_id = auth.uid()))",
         "( <0> OR ( author_id = <1> ) )", 1),
        ("(team IN ( SELECT public.my_teams() AS my_teams))", "( team = ANY ( <0> ) )", 1),
        ("(team = ANY (ARRAY( SELECT public.my_teams() AS my_teams)))",
         "( team = ANY ( <0> ) )", 1),
        ("(team = ( SELECT public.my_teams() AS my_teams LIMIT 1))", "( team = <0> )", 1),
        ("( SELECT public.has_role(auth.uid(), 'x'::text) AS has_role)", "<0>", 1),
        ("(a AND COALESCE(public.has_role(auth.uid(), 'x'::text), false))", "( a AND <0> )", 1),
        ("(created_at > (current_setting('ayb.tenant_id'::text))::timestamp with time zone)",
         "( created_at > <0> )", 1),
        ("has_table_privilege('members'::text, 'SELECT'::text)", "<0>", 1),
        ("(a IN ( SELECT m.a FROM public.m WHERE (m.user_id = auth.uid())))",
         "( a = ANY ( <0> ) )", 1),
        (("(EXISTS ( SELECT FROM public.n WHERE ((n.a = t.a) AND "
         "public.has_role(auth.uid(), 'x'::text))))"),
         "( EXISTS ( SELECT FROM public . n WHERE ( ( n . a = t . a ) AND <0> ) ) )", 1),
    ],
)  # fmt: skip
def test_computed(text, rest, computed):
    """What calls other functions, or reads tables out of the statement's reach, is computed."""
    shown, found = collect(text, UID, ROLE, TEAMS, unjoinable=["public.m"])
    assert shown == rest
    assert sum(not expression.is_kept for expression in found) == computed
    assert all(e.reads == {0, 1, 2, 3} for e in found if not e.is_kept)


@pytest.mark.parametrize(
    "text",
    [
        "public.has_role(author_id, 'x'::text)",
        "(public.my_teams() = team)",
        "(max(public.f()) > 1)",
        "( SELECT 1 FROM public.my_teams() x(y) WHERE (x.y = t.a))",
        "( SELECT 1 FROM public.a WHERE (a.b = 1))",
        "'literal'::text",
        "public.unknown()",
        "a.current_setting",
        "(current_setting = 'ayb.user_id'::text)",
        "(lower('x'::text) = a)",
        "(a = 'current_setting(''ayb.user_id''::text)'::text)",
    ],
)
def test_not_taken(text):
    """What reads the row, is a set out of place or needs nothing of the client is left alone."""
    assert collect(text, UID, ROLE, TEAMS)[1] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("public.has_role(auth.uid(), 'x'::text)", "public.has_role(auth.uid(), 'x'::text)"),
        ("(team IN ( SELECT public.my_teams() AS my_teams))",
         "(SELECT public.my_teams() AS my_teams)"),
        ("(a = (ARRAY[auth.uid(), public.has_role()])[1])",
         "(ARRAY[auth.uid(), public.has_role()])[1]"),
        ("(public.has_role() = 'x'::text)", "(public.has_role() = 'x'::text)"),
    ],
)  # fmt: skip
def test_text_of_an_expression(text, shown):
    """An expression is shown with the spacing of the policy, without pg_catalog."""
    _, [found] = collect(text, UID, ROLE, TEAMS)
    assert found.text == shown


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"kind": "a"}, "no plain function"),
        ({"overloads": 2}, "several functions"),
        ({"executable": False}, "may not be executed"),
        ({"volatility": "v"}, "VOLATILE"),
    ],
)
def test_functions_that_cannot_be_asked_once(changes, fault):
    """The reason why a function is in the way is told."""
    text = "public.has_role(auth.uid(), 'x'::text)"
    changed = {name.rstrip(): value for name, value in changes.items()}
    bad = function(
        **{"schema": "public", "name": "has_role", "arguments": 2, "body": None, **changed}
    )
    assert [e for e in collect(text, UID, bad)[1] if not e.is_kept] == []
    collector = SettingCollector(BUILTINS, {("public", "has_role"): bad})
    assert fault in str(collector.fault_in(text))


def test_faults_of_others():
    """A function that is given something of the row is named; where none is called nothing is."""
    collector = SettingCollector(BUILTINS, {("public", "has_role"): ROLE, ("auth", "uid"): UID})
    assert "something of the row" in str(collector.fault_in("public.has_role(a, 'x'::text)"))
    assert collector.fault_in("(auth.uid() = a)") is None
    assert collector.fault_in("(a = b)") is None


@pytest.mark.parametrize(
    "text",
    [
        "(current_setting(name) = 'x'::text)",
        "(current_setting(('ayb.'::text || 'user_id'::text)) = 'x'::text)",
        "(current_setting('search_path'::text) = 'x'::text)",
        "(current_setting('a.b'::text) = 'x'::text)",
        "(current_setting('ÄYB.user_id'::text) = 'x'::text)",
        "(pg_catalog.current_setting(name, true) = 'x'::text)",
    ],
)
def test_settings_that_are_not_understood(text):
    """A setting without a plain name, a built-in one, or one that may raise is not rewritten."""
    with pytest.raises(UnreadableError):
        collect(text)


def test_setting_names_are_folded_as_postgres_folds_them():
    """Only ASCII letters: a setting of another name is another setting."""
    assert collect("(a = current_setting('app.Ä'::text, true))")[1][0].others == ("app.Ä",)
    _, [legacy] = collect("(a = current_setting('request.jwt.claim.SUB'::text, true))")
    assert legacy.is_kept
    assert legacy.others == ("request.jwt.claim.SUB",)
    assert legacy.reads == frozenset()


def test_equal_expressions_are_one():
    """The same expression in two policies is computed once."""
    collector = SettingCollector(BUILTINS)
    collector.replace_in(tokenize(f"(a = ({USER})::uuid)"))
    collector.replace_in(tokenize(f"(b = ({USER})::uuid) OR ({USER} = c)"))
    assert len(collector.found) == 2


@pytest.mark.parametrize(
    "body",
    [
        "SELECT current_setting('ayb.user_id')::uuid;",
        " select  -- it\n current_setting('ayb.user_email') as me ",
        "RETURN (NULLIF(current_setting('ayb.tenant_id'::text), ''::text))::integer",
        "BEGIN ATOMIC\n SELECT (current_setting('ayb.user_id'::text))::uuid AS u;\nEND",
        "select cast(current_setting('ayb.user_id') as uuid)",
        "BEGIN RETURN current_setting('ayb.user_id')::uuid; END;",
        "\nbegin\n  return (select nullif(current_setting('a.b', true), '')::jsonb ->> 'x');\nend",
    ],
)
def test_wrappers(body):
    """A function that only computes from settings is known, in SQL and PL/pgSQL."""
    assert read_wrapper(body).settings
    wrapped = replace(read_wrapper(body), settings=())
    assert not wrapped.calls


@pytest.mark.parametrize(
    "body",
    [
        "SELECT 'x'::uuid",
        "SELECT me()",
        "SELECT auth.me()",
        "SELECT current_setting('ayb.user_id')::uuid FROM users",
        "SELECT set_config('a.b', 'x', true); SELECT current_setting('ayb.user_id')",
        "SELECT current_setting('ayb.user_id') || 'x'",
        "SELECT current_setting('ayb.user_id')::\"uuid\"",
        "SELECT current_setting('ayb.user_id')::date",
        "SELECT current_setting('ayb.user_id') = current_user",
        "SELECT current_setting('ayb.user_id'), 1",
        "VALUES (current_setting('ayb.user_id'))",
        "BEGIN IF true THEN RETURN current_setting('ayb.user_id'); END IF; END",
        "DECLARE x int; BEGIN RETURN current_setting('ayb.user_id'); END",
        "SELECT $1 || current_setting('ayb.user_id')",
        "BEGIN RETURN current_setting('ayb.user_id'); END block",
        "BEGIN ATOMIC END",
        "",
    ],
)
def test_no_wrappers(body):
    """Whatever does more than compute from settings is left alone."""
    with pytest.raises(UnreadableError):
        read_wrapper(body)


def test_wrapper_of_a_set_or_with_arguments_is_none():
    """Only what returns one value from nothing is taken for a wrapper."""
    for changes in ({"set": True}, {"arguments": 1}, {"overloads": 2}, {"executable": False},
                    {"body": "SELECT 1"}, {"body": None}):  # fmt: skip
        _, found = collect("(auth.uid() = a)", function(volatility="v", **changes))
        assert found == []
    assert collect("(auth.uid() = a)", function(volatility="v", definer=True))[1][0].is_kept
