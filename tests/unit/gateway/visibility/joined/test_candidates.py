"""gateway.visibility.joined.candidates: which cohorts a question need not name."""

from __future__ import annotations

import pytest

from gateway.visibility.joined import candidates as module
from gateway.visibility.joined.candidates import Equality, candidates, columns_of, comparable
from gateway.visibility.joined.joinable import join
from gateway.visibility.joined.kept_values import ValueGroups
from gateway.visibility.rules import Column, Need, Policy
from tests.unit.gateway.visibility.joined.facts import BUILTINS, USER, function, rules

OWN = f"(author_id = ({USER})::uuid)"
TITLE = f"(title = {USER})"
UID = "00000000-0000-4000-8000-000000000001"


def demanded(*policies, **changes):
    return join(rules(*policies, **changes), BUILTINS).demands


def restrictive(name, expression):
    return Policy(name=name, permissive=False, expression=expression)


@pytest.mark.parametrize(
    ("policies", "columns"),
    [
        ([OWN], ["author_id"]),
        ([f"(({USER})::uuid = author_id)"], ["author_id"]),
        ([f"(posts.author_id = (({USER})::uuid))"], ["author_id"]),
        ([f"((author_id)::text = {USER})"], ["author_id"]),
        ([f"(published OR {OWN})"], ["author_id"]),
        (["published", OWN, f"({TITLE} AND (NOT published))"], ["author_id", "title"]),
        ([OWN, restrictive("q", "published")], ["author_id"]),
        (["published", restrictive("q", TITLE)], ["title"]),
        (["published", restrictive("q", OWN), restrictive("r", TITLE)], ["author_id", "title"]),
        ([OWN, restrictive("q", f"(title <> {USER})")], ["author_id"]),
    ],
)
def test_demands(policies, columns):
    """An equality between a column and a claim that nobody sees the row without."""
    assert list(columns_of(demanded(*policies))) == columns


@pytest.mark.parametrize(
    "policies",
    [
        ["published"],
        [f"({USER} = 'x'::text)", OWN],
        [f"(title <> {USER})"],
        [f"(NOT {TITLE})"],
        [f"({TITLE} IS NOT TRUE)"],
        [f"({TITLE} = published)"],
        [f"((title = {USER}) = (title = 'x'::text))"],
        [f"(lower(title) = {USER})"],
        [f"(title = ANY (ARRAY[{USER}, 'x'::text]))"],
        [f"CASE WHEN published THEN {TITLE} ELSE true END"],
        [f"(((id / 0) = 1) AND {TITLE})"],
        ["published", restrictive("q", f"(title <> {USER})")],
        [f"({TITLE} OR (title <> {USER}))"],
    ],
)
def test_no_demands(policies):
    """Whatever can be true otherwise, or can raise, leaves all cohorts candidates."""
    assert demanded(*policies) == ()


def test_a_keyword_is_no_column():
    """Postgres quotes a column that is named like a keyword."""
    named = (Column(1, "current_user", True),)
    facts = {"columns": named, "needs": (Need("current_user", "no"),)}
    assert demanded(f"(CURRENT_USER = ({USER}))", **facts) == ()
    assert demanded(f'("current_user" = ({USER}))', **facts) != ()


def test_no_demands_with_computed_values_or_sets():
    """Values that are computed for each question are not known before it."""
    given = function(name="given", body=None, language="plpgsql")
    assert demanded(f"({OWN} AND auth.given() = title)", functions=(given,)) == ()
    several = f"(title IN ( SELECT jsonb_array_elements_text({USER}::jsonb)))"
    assert demanded(several) == ()


@pytest.mark.parametrize(
    ("claim", "column", "is_cast", "family"),
    [
        ("uuid", "uuid", False, "uuid"),
        ("int4", "int8", False, "integer"),
        ("varchar", "text", False, "text"),
        ("text", "uuid", True, "uuid"),
        ("text", "int2", True, "integer"),
        ("text", "uuid", False, None),
        ("uuid", "text", False, None),
        ("numeric", "numeric", False, None),
        ("int4", "numeric", False, None),
        ("text", "bpchar", True, None),
        ("text", None, False, None),
    ],
)
def test_comparable(claim, column, is_cast, family):
    """Only of types that write equal values alike."""
    array = None if column is None else f"pg_catalog._{column}"
    found = comparable([(Equality("c", 0, is_cast),)], [f"pg_catalog.{claim}"], {"c": array})
    assert found == (((Equality("c", 0, is_cast, family),),) if family else ())


def test_comparable_needs_each_demand():
    """One part whose equality is not textual shows its rows to cohorts that are not looked up."""
    one, other = Equality("c", 0), Equality("d", 0)
    types = {"c": "pg_catalog._text", "d": "pg_catalog._bpchar"}
    assert comparable([(one, other)], ["pg_catalog.text"], types) == (
        (Equality("c", 0, family="text"),),
    )
    assert comparable([(one,), (other,)], ["pg_catalog.text"], types) == ()


@pytest.fixture
def always(monkeypatch):
    """Look candidates up however few the groups are."""
    monkeypatch.setattr(module, "FEWEST_GROUPS", 0)
    monkeypatch.setattr(module, "MOST_CANDIDATES", 1)


TEXT = ((Equality("c", 0, family="text"),),)


@pytest.mark.parametrize(
    ("family", "image", "found"),
    [
        ("text", '{"c":"b"}', [2]),
        ("text", '{"c":"\\u0062"}', [2]),
        ("text", '{"c":"z"}', []),
        ("text", '{"c":null}', []),
        ("text", '{"c":"b "}', None),
        ("text", '{"c":1}', None),
        ("uuid", f'{{"c":"{UID}"}}', [3]),
        ("uuid", '{"c":"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}', None),
        ("integer", '{"c":-7}', [4]),
        ("integer", '{"c":0}', []),
        ("integer", '{"c":-0}', None),
        ("integer", '{"c":7.0}', None),
    ],
)
@pytest.mark.usefixtures("always")
def test_candidates(family, image, found):
    """An image's candidates have its value; one that is written otherwise has all as candidates."""
    groups = ValueGroups(["a", "b", UID, "-7", None], 5, [])
    assert candidates(((Equality("c", 0, family=family),),), groups, [image]) == found


@pytest.mark.usefixtures("always")
def test_candidates_by_the_claim_that_tells_most():
    """Of several equalities that are demanded the one is used of which the fewest have a value."""
    groups = ValueGroups(["t", "t", "t", "a", "b", "c"], 3, [])
    demand = (Equality("c", 0, family="text"), Equality("d", 1, family="text"))
    assert candidates([demand], groups, ['{"c":"t","d":"b"}']) == [2]
    assert candidates([demand[:1]], groups, ['{"c":"t","d":"b"}']) == [1, 2, 3]


def test_candidates_only_where_it_pays():
    """With few groups, or with many candidates, all of them are asked about."""
    names = [f"n{n}" for n in range(200)]
    groups = ValueGroups(names, 200, [])
    images = [f'{{"c":"{name}"}}' for name in names]
    assert candidates(TEXT, groups, images[:3]) == [1, 2, 3]
    assert candidates(TEXT, groups, images[:101]) is None
    assert candidates(TEXT, ValueGroups(names[:99], 99, []), images[:1]) is None
    assert candidates((), groups, images[:1]) is None
