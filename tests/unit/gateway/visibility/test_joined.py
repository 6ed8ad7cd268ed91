"""gateway.visibility.joined: policy text, as Postgres 18 deparses it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.visibility.joined.answer_rows import excluded_cohorts, read_joined
from gateway.visibility.joined.expressions import split
from gateway.visibility.joined.joinable import NotJoinableError, join
from gateway.visibility.joined.lexer import UnreadableError, render, tokenize
from gateway.visibility.joined.setting_expressions import SettingCollector, read_wrapper
from gateway.visibility.rules import Column, Function, Need, Policy, Relation, Rules, Type

USER = "current_setting('ayb.user_id'::text)"
PURE = frozenset({"lower", "count", "upper"})


def rewritten(text, wrappers=None):
    """Show a policy with its claims as <SQL : type>."""
    claims = SettingCollector(wrappers or {})
    tokens = claims.replace_in(tokenize(text))
    return " ".join(
        f"<{claims.found[int(t.value)].sql} : {claims.found[int(t.value)].type}>"
        if t.kind == "setting"
        else t.text
        for t in tokens
    )


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


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (f"(author_id = ({USER})::uuid)", "( author_id = <({0})::pg_catalog.uuid : uuid> )"),
        (
            "(author_id = (NULLIF(current_setting('ayb.user_id'::text, true), ''::text))::uuid)",
            "( author_id = <(nullif({0}, ''))::pg_catalog.uuid : uuid> )",
        ),
        (
            "((((current_setting('request.jwt.claims'::text))::jsonb -> 'a'::text) ->> 0) = x)",
            (
                "( <((({3})::pg_catalog.jsonb OPERATOR(pg_catalog.->) 'a'::pg_catalog.text) "
                "OPERATOR(pg_catalog.->>) 0::pg_catalog.int4) : text> = x )"
            ),
        ),
        (f"(a = ( SELECT ({USER})::uuid AS x))", "( a = <({0})::pg_catalog.uuid : uuid> )"),
        (f"(lower({USER}) = a)", "( lower ( <{0} : text> ) = a )"),
        (f"(a = ANY (ARRAY[{USER}, b]))", "( a = ANY ( ARRAY [ <{0} : text> , b ] ) )"),
        (f"(({USER})::varchar(3) = a)", "( <{0} : text> :: varchar ( 3 ) = a )"),
        (f"(COALESCE({USER}, a) = b)", "( COALESCE ( <{0} : text> , a ) = b )"),
        ("(current_setting('AYB.User_ID'::text) = b)", "( <{0} : text> = b )"),
        ("(a = 'current_setting(''ayb.user_id''::text)'::text)",
         "( a = 'current_setting(''ayb.user_id''::text)' :: text )"),
        ("(current_setting = 'ayb.user_id'::text)", "( current_setting = 'ayb.user_id' :: text )"),
        ("(x.current_setting IS NULL)", "( x . current_setting IS NULL )"),
        ("(current_setting('a.b'::text, true) = '{'::text)",
         "( <pg_catalog.current_setting('a.b', true) : text> = '{' :: text )"),
        (f"(NULLIF({USER}, '{{}}'::text) IS NULL)", "( <nullif({0}, '{{}}') : text> IS NULL )"),
    ],
)  # fmt: skip
def test_claims(text, result):
    """What is computed from settings alone becomes a claim, as a whole, and nothing else does."""
    assert rewritten(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "(current_setting(name) = 'x'::text)",
        "(current_setting(('ayb.'::text || 'user_id'::text)) = 'x'::text)",
        "(current_setting('search_path'::text) = 'x'::text)",
        "(current_setting('a.b'::text) = 'x'::text)",
        "(pg_catalog.current_setting(name, true) = 'x'::text)",
    ],
)
def test_settings_that_are_not_understood(text):
    """A setting without a plain name, a built-in one, or one that may raise is not rewritten."""
    with pytest.raises(UnreadableError):
        rewritten(text)


def test_equal_claims_are_one():
    """The same expression in two policies is computed once."""
    claims = SettingCollector()
    claims.replace_in(tokenize(f"(a = ({USER})::uuid)"))
    claims.replace_in(tokenize(f"(b = ({USER})::uuid) OR ({USER} = c)"))
    assert [claim.type for claim in claims.found] == ["uuid", "text"]


@pytest.mark.parametrize(
    ("body", "returns", "sql"),
    [
        ("SELECT current_setting('ayb.user_id')::uuid;", "uuid", "({0})::pg_catalog.uuid"),
        (" select  -- it\n current_setting('ayb.user_email') as me ", "text", "{1}"),
        ("RETURN (NULLIF(current_setting('ayb.tenant_id'::text), ''::text))::integer", "integer",
         "(nullif({2}, ''))::pg_catalog.int4"),
        ("BEGIN ATOMIC\n SELECT (current_setting('ayb.user_id'::text))::uuid AS u;\nEND", "uuid",
         "({0})::pg_catalog.uuid"),
        ("select cast(current_setting('ayb.user_id') as uuid)", "uuid", "({0})::pg_catalog.uuid"),
    ],
)  # fmt: skip
def test_wrappers(body, returns, sql):
    """A function that only wraps settings is read, in either kind of body."""
    assert read_wrapper(body, returns).sql == sql


@pytest.mark.parametrize(
    ("body", "returns"),
    [
        ("SELECT current_setting('ayb.user_id')", "uuid"),
        ("SELECT 'x'::uuid", "uuid"),
        ("SELECT me()", "uuid"),
        ("SELECT current_setting('ayb.user_id')::uuid FROM users", "uuid"),
        ("SELECT set_config('a.b', 'x', true); SELECT current_setting('ayb.user_id')", "text"),
        ("SELECT current_setting('ayb.user_id') || 'x'", "text"),
        ("SELECT current_setting('ayb.user_id')::\"uuid\"", "uuid"),
        ("SELECT current_setting('ayb.user_id'), 1", "text"),
        ("VALUES (current_setting('ayb.user_id'))", "text"),
        ("", "text"),
    ],
)
def test_no_wrappers(body, returns):
    """Whatever does more than wrap settings is left alone."""
    with pytest.raises(UnreadableError):
        read_wrapper(body, returns)


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


def rules(*policies, **changes):
    """Rules of a table posts(id, author_id, title, published) with policies given as text."""
    names = ("id", "author_id", "title", "published")
    facts = {
        "schema": "public",
        "table": "posts",
        "bypass": False,
        "columns": tuple(Column(n, name, True) for n, name in enumerate(names, 1)),
        "needs": tuple(Need(name, "no") for name in names),
        "policies": tuple(
            policy
            if isinstance(policy, Policy)
            else Policy(name=f"p{n}", permissive=True, expression=policy)
            for n, policy in enumerate(policies)
        ),
        **changes,
    }
    return Rules(**facts)


def function(**changes):
    facts = {
        "schema": "auth",
        "name": "uid",
        "arguments": 0,
        "kind": "f",
        "language": "sql",
        "volatility": "s",
        "definer": False,
        "configured": False,
        "set": False,
        "returns": "uuid",
        "body": "SELECT current_setting('ayb.user_id')::uuid",
        "executable": True,
        "overloads": 1,
        **changes,
    }
    return Function(**facts)


def test_wrapped_policy_is_joined_by_its_setting():
    """`(SELECT auth.uid())` reads the setting that the function wraps."""
    joined = join(rules("(author_id = ( SELECT auth.uid() AS uid))", functions=(function(),)), PURE)
    assert joined.reads == ("ayb.user_id",)
    assert "auth ." not in joined.question


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"functions": (function(definer=True),)}, "SECURITY DEFINER"),
        ({"functions": (function(language="plpgsql"),)}, "not a function in SQL"),
        ({"functions": (function(arguments=1),)}, "takes arguments"),
        ({"functions": (function(volatility="v"),)}, "VOLATILE"),
        ({"functions": (function(configured=True),)}, "SET clauses"),
        ({"functions": (function(executable=False),)}, "may not be executed"),
        ({"functions": (function(set=True),)}, "returns a set"),
        ({"functions": (function(body="SELECT other()"),)}, "more than settings"),
        ({"relations": (Relation("public.m", "r", True),)}, "has RLS itself"),
        ({"relations": (Relation("public.v", "v", False),)}, "not a plain table"),
        ({"types": (Type("public.citext", "b"),)}, "uses the type"),
        ({"operators": ("public",)}, "uses an operator"),
        ({"others": ("pg_ts_config",)}, "depends on an object"),
    ],
)
def test_dependencies_that_need_the_loop(facts, reason):
    """What a policy depends on decides for the loop, and the reason is kept."""
    with pytest.raises(NotJoinableError, match=reason):
        join(rules("(author_id = auth.uid())", **facts), PURE)


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
        join(rules(text), PURE)


def test_split_only_where_nothing_can_raise():
    """An OR is split if no arm can raise; else the condition stays in one piece."""
    quiet = join(rules(f"(published OR (author_id = ({USER})::uuid))"), PURE).question
    assert quiet.count("published") == 3  # as a column of the row twice, and in its own part
    loud = join(rules(f"(((10 / id) > 2) OR (author_id = ({USER})::uuid))"), PURE).question
    assert "10 / id ) > 2 ) OR (" in loud


def test_claims_are_validated_where_postgres_can():
    """From Postgres 16 on a claim that does not cast is left out instead of raising."""
    asked = rules(f"(author_id = ({USER})::uuid)")
    assert "pg_input_is_valid" not in join(asked, PURE).question
    assert "pg_input_is_valid" in join(asked, PURE | {"pg_input_is_valid"}).question


def test_own_names_are_nobodys():
    """The names in a question avoid whatever the policy and the table use."""
    question = join(
        rules(f"(author_id = (({USER})::uuid)) AND (ayb0c.ayb1x = title)"), PURE
    ).question
    assert "ayb2n" in question
    assert "AS ayb0" not in question


def test_reading_answers():
    """Products, rests and exclusions are put together; equal answers share one set."""
    rows = [(0, None, [3]), (1, [1, 4], [1, 2]), (1, [2], None), (2, [3], [1]), (1, [3], [1])]
    assert excluded_cohorts(rows) == [2]
    seen = read_joined(rows, 4, 5)
    assert seen == [{0, 1}, {0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1}, set()]
    assert seen[0] is seen[3]
