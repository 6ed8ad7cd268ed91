"""Asking about candidates only gives the same answers as asking about all cohorts."""

from __future__ import annotations

import json

import asyncpg
import pytest

from gateway.visibility.engine import EVERYBODY, Image
from gateway.visibility.joined import candidates
from gateway.visibility.plan import Form
from tests.integration.visibility.conftest import ROLE, settings

USER = "current_setting('ayb.user_id')"
TENANT = "current_setting('ayb.tenant_id')"
UPPER = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
NAMES = [UPPER, UPPER.lower(), "a", "A", "a ", "b", "1", "01", "1.0", "-0", "", "%"]
MEMBERS = {
    f"{name}/{tenant}": settings(user=name, tenant=tenant)
    for name in NAMES
    for tenant in ("1", "01", "2", "x")
}

COLUMNS = """owner text, plain varchar, short varchar(2), blank char(3), number int8, exact numeric,
    ci text COLLATE ci, c text COLLATE "C", uid uuid, public boolean"""

POLICIES = {
    "owner = {user}": True,
    "plain = {user}": True,
    "short = {user}": True,
    "blank = {user}": False,
    "blank::text = {user}": False,
    "ci = {user}": False,
    "c = {user}": False,
    "uid::text = {user}": True,
    "number::text = {user}": True,
    "exact::text = {user}": False,
    "public OR owner = {user}": True,
    "owner = {user} OR plain = {tenant}": True,
    "owner = {user} OR blank = {tenant}": False,
    "owner = {user} AND number::text = {tenant}": True,
    "owner <> {user}": False,
}
"""Policies, and whether candidates are looked up for them."""

ROWS = [
    {"owner": owner, "plain": owner, "short": owner[:2], "blank": owner[:3], "number": number,
     "exact": exact, "ci": owner, "c": owner, "uid": UPPER.lower(), "public": number == 2}
    for owner in NAMES for number, exact in ((1, 1), (2, 2), (None, None))
]  # fmt: skip


@pytest.fixture
async def table(engine):
    icu = "provider = icu, locale = 'und-u-ks-level2', deterministic = false"
    try:
        await engine.admin.execute(f"CREATE COLLATION ci ({icu})")
    except asyncpg.FeatureNotSupportedError:  # a build without ICU
        await engine.admin.execute('CREATE COLLATION ci FROM "POSIX"')
    await engine.admin.execute(
        f"""
        CREATE TABLE posts (nr int PRIMARY KEY, {COLUMNS});
        GRANT SELECT ON posts TO {ROLE};
        ALTER TABLE posts ENABLE ROW LEVEL SECURITY"""
    )
    await engine.insert("posts", *({"nr": n, **row} for n, row in enumerate(ROWS)))
    return await engine.images("posts")


async def both_ways(engine, monkeypatch, images, members=MEMBERS):
    """Ask about all cohorts and about candidates; return what each member sees by the latter."""
    answers = []
    for fewest in (10**9, 0):
        monkeypatch.setattr(candidates, "FEWEST_GROUPS", fewest)
        monkeypatch.setattr(candidates, "MOST_CANDIDATES", 1)
        answers.append(await engine.ask("posts", members, images))
    everybody = frozenset(range(len(members)))
    one, other = (
        [everybody if cohorts is EVERYBODY else set(cohorts) for cohorts in seen.answer.visible]
        for seen in answers
    )
    assert one == other
    assert answers[0].answer.undecidable == answers[1].answer.undecidable
    assert answers[0].broken() == answers[1].broken()
    return answers[1]


@pytest.mark.parametrize(
    "restrictive", [None, "public", "number::text = {tenant}", "owner <> {user}"]
)
async def test_same_answers(engine, table, monkeypatch, restrictive):
    """For every policy the two ways agree, whatever the types and how they are combined."""
    texts = {"user": USER, "tenant": TENANT}
    looked_up = {}
    for policy in POLICIES:
        await engine.admin.execute(
            f"DROP POLICY IF EXISTS p ON posts; DROP POLICY IF EXISTS r ON posts;"
            f"CREATE POLICY p ON posts USING ({policy.format(**texts)})"
        )
        if restrictive is not None:
            await engine.admin.execute(
                f"CREATE POLICY r ON posts AS RESTRICTIVE USING ({restrictive.format(**texts)})"
            )
        seen = await both_ways(engine, monkeypatch, table)
        plan = engine.visibility.plan_of(await engine.relid("posts"), ROLE)
        assert plan.form is Form.JOINED, (policy, plan.reason)
        looked_up[policy] = bool(plan.demands)
        assert restrictive is not None or any(seen.by(member) for member in MEMBERS), policy
    if restrictive in (None, "public"):
        assert looked_up == POLICIES
    elif restrictive == "number::text = {tenant}":
        assert all(looked_up.values())
    else:
        assert not looked_up["public OR owner = {user}"]


async def test_values_of_a_former_type(engine, table, monkeypatch):
    """An image from before its column became a uuid or an integer is seen by whom it is now."""
    await engine.admin.execute(
        f"CREATE POLICY p ON posts USING "
        f"(uid::text = {USER} OR number::text = {USER} OR owner = {USER})"
    )
    row = {"nr": 1, **ROWS[0], "owner": 1}
    images = [
        Image(json.dumps(row | changed).encode())
        for changed in ({"uid": UPPER}, {"number": "01"}, {"number": "1", "owner": "01"})
    ]
    seen = await both_ways(engine, monkeypatch, images)
    assert seen.by(f"{UPPER.lower()}/1") == {0, 1, 2}
    assert seen.by("1/1") == {0, 1, 2}
    assert seen.by("01/1") == {2}
    assert seen.by(f"{UPPER}/1") == set()


async def test_an_image_that_does_not_fit_is_not_lost(engine, table, monkeypatch):
    """An image without any candidate is read by Postgres all the same, so clients get a resync."""
    await engine.admin.execute(f"CREATE POLICY p ON posts USING (owner = {USER} AND number > 0)")
    row = {"nr": 1, **ROWS[0]}
    images = [Image(json.dumps(row | {"owner": "nobody", "number": "x"}).encode())]
    seen = await both_ways(engine, monkeypatch, images)
    assert seen.answer.undecidable == {0}


async def test_a_cohort_whose_claim_raises(engine, table, monkeypatch):
    """It gets an error, and the others see what they may see."""
    await engine.admin.execute(f"CREATE POLICY p ON posts USING (number = {TENANT}::int)")
    seen = await both_ways(engine, monkeypatch, table)
    assert seen.broken() == {m for m in MEMBERS if m.endswith("/x")}
    assert (
        seen.by("a/01")
        == seen.by("a/1")
        == {n for n, i in enumerate(table) if b'"number":1,' in i.json}
    )


async def test_only_candidates_are_sent(engine, table, monkeypatch):
    """The question has the values of the candidates and no others."""
    sent = []
    ask = engine.visibility._queries.joined

    async def joined(*args, **kwargs):
        sent.append(kwargs["kept"].text.split(kwargs["kept"].separator)[1:])
        return await ask(*args, **kwargs)

    monkeypatch.setattr(engine.visibility._queries, "joined", joined)
    await engine.admin.execute(f"CREATE POLICY p ON posts USING (owner = {USER})")
    members = {n: settings(user=f"u{n}") for n in range(1000)}
    seen = await engine.ask("posts", members, [{"nr": 1, **ROWS[0], "owner": "u7"}])
    assert sent == [["u7"]]
    assert seen.by(7) == {0}
