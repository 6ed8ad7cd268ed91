"""Policies as projects write them, each against a SELECT by every user, in the form that is due."""

from __future__ import annotations

import asyncio
import json

import pytest

from bench.benchmarks.policy_shapes import SCHEMA, SHAPES, rows, settings
from gateway.visibility.engine import Visibility
from tests.integration.visibility.conftest import ROLE
from tests.integration.visibility.conftest import settings as plain

USERS = 40


async def shown(connection, values, query="SELECT id FROM docs") -> set[int]:
    """Ask as a client of the role with these settings would."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {ROLE}")
        await connection.fetch(
            "SELECT set_config('ayb.user_id', $1, true), set_config('ayb.user_email', $2, true), "
            "set_config('ayb.tenant_id', $3, true), set_config('request.jwt.claims', $4, true)",
            *values,
        )
        return {row[0] for row in await connection.fetch(query)}


async def check(engine, members) -> None:
    """Compare what each member sees with what a SELECT shows it."""
    ids = [r[0] for r in await engine.admin.fetch("SELECT id FROM docs d ORDER BY id")]
    images = [
        image
        for n in ids
        for image in await engine.images("docs", f"id = {n}")
    ]  # fmt: skip
    seen = await engine.ask("docs", members, images)
    assert not seen.answer.broken
    for member, values in members.items():
        async with engine.database.connect() as client:  # with no plan of another's in it
            truth = await shown(client, values)
        assert {ids[n] for n in seen.by(member)} == truth, member


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_shape(engine, shape):
    """The form is the one that is due, and every user is shown what a SELECT shows."""
    await engine.admin.execute(SCHEMA + rows(USERS, 60))
    for policy in shape.policies:
        await engine.admin.execute(policy)
    members = {n: settings(n) for n in range(USERS)}
    await check(engine, members)
    form, reason = engine.recorder.plans[-1][1:]
    assert (form, reason) == (shape.form, reason)
    assert set(engine.recorder.questions) == {shape.form}
    await check(engine, {n: settings(n) for n in range(5, USERS + 5)})


HELPERS = """
    CREATE TABLE docs (id int PRIMARY KEY, org text, body text);
    CREATE TABLE orgs (user_id text, org text);
    INSERT INTO orgs VALUES ('a', 'A'), ('b', 'B');
    GRANT SELECT ON docs, orgs TO ayb_authenticated;
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
    INSERT INTO docs VALUES (1, 'A', 'x'), (2, 'B', 'x'), (3, NULL, 'x');
"""
MEMBERS = {"a": plain(user="a"), "b": plain(user="b"), "c": plain(user="c"), "n": plain()}


@pytest.mark.parametrize(
    ("function", "policy"),
    [
        (
            """CREATE FUNCTION my_org() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
                IF coalesce(current_setting('app.org', true), '') = '' THEN
                    PERFORM set_config('app.org', (SELECT o.org FROM orgs o
                        WHERE o.user_id = current_setting('ayb.user_id')), true);
                END IF;
                RETURN current_setting('app.org', true);
            END $$""",
            "org = my_org()",
        ),
        (
            """CREATE FUNCTION my_org() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
                RETURN upper(current_setting('ayb.user_id')); END $$""",
            "org = my_org()",
        ),
        (
            """CREATE FUNCTION liar() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
                RETURN upper(current_setting('ayb.user_id')); END $$;
            CREATE FUNCTION my_org() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
                RETURN liar(); END $$""",
            "org = my_org()",
        ),
        (
            """CREATE FUNCTION my_orgs() RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$ BEGIN
                IF current_setting('ayb.user_id') = 'a' THEN
                    RETURN QUERY SELECT unnest(ARRAY['A', NULL]);
                ELSIF current_setting('ayb.user_id') = 'c' THEN
                    RETURN NEXT NULL;
                ELSE
                    RETURN QUERY SELECT o.org FROM orgs o
                        WHERE o.user_id = current_setting('ayb.user_id');
                END IF;
            END $$""",
            "org NOT IN (SELECT my_orgs())",
        ),
        (
            """CREATE FUNCTION my_orgs() RETURNS SETOF text LANGUAGE sql STABLE AS
                $$ SELECT o.org FROM orgs o WHERE o.user_id = current_setting('ayb.user_id') $$""",
            "(org IN (SELECT my_orgs())) IS NOT TRUE",
        ),
        (
            """CREATE FUNCTION mine() RETURNS timestamptz LANGUAGE sql STABLE AS
                $$ SELECT CASE current_setting('ayb.user_id') WHEN 'a' THEN '2020-01-02'
                    ELSE '2020-02-01' END::timestamptz $$""",
            "'2020-01-01'::timestamptz + (id || ' days')::interval > mine()",
        ),
        (
            """CREATE TYPE kind AS ENUM ('A', 'it''s "B"');
            CREATE FUNCTION mine() RETURNS kind LANGUAGE sql STABLE AS
                $$ SELECT CASE current_setting('ayb.user_id') WHEN 'a' THEN 'A'
                    ELSE 'it''s "B"' END::kind $$""",
            "(org = 'A') = (mine() = 'A')",
        ),
        (
            """CREATE FUNCTION "Odd name"("it's" text) RETURNS text LANGUAGE sql STABLE AS
                $$ SELECT CASE current_setting('ayb.user_id') WHEN 'b' THEN E'B' ELSE $1 END $$""",
            """org = "Odd name"('{"a}, %s''')""",
        ),
    ],
    ids=["set_config", "immutable liar", "liar within", "NOT IN", "IS NOT TRUE", "dates", "enum",
         "odd names"],
)  # fmt: skip
@pytest.mark.parametrize("odd", [False, True], ids=["", "odd session"])
async def test_functions_without_the_row(engine, function, policy, odd):
    """Whatever a function of the client alone does, each user gets its own answer, joined."""
    if odd:
        await engine.admin.execute(
            f"""ALTER DATABASE "{engine.database.name}" SET DateStyle = 'SQL, DMY';
            ALTER DATABASE "{engine.database.name}" SET TimeZone = 'Asia/Kathmandu';
            ALTER DATABASE "{engine.database.name}" SET IntervalStyle = 'sql_standard';
            ALTER DATABASE "{engine.database.name}" SET extra_float_digits = -5;
            ALTER DATABASE "{engine.database.name}" SET array_nulls = off"""
        )
        await engine.pool.expire_connections()
    await engine.admin.execute(f"{HELPERS} {function}; CREATE POLICY p ON docs USING ({policy})")
    for _ in range(2):
        await check(engine, MEMBERS)
    assert {form for _, form, _ in engine.recorder.plans} == {"joined"}


async def test_who_is_a_member_changes(engine):
    """Computed values are those of the moment: whoever joined or left since is judged so."""
    await engine.admin.execute(
        HELPERS
        + """CREATE FUNCTION my_org() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS
            $$ SELECT o.org FROM public.orgs o WHERE o.user_id = current_setting('ayb.user_id') $$;
        CREATE POLICY p ON docs USING (org = my_org())"""
    )
    await check(engine, MEMBERS)
    await engine.admin.execute("DELETE FROM orgs WHERE user_id = 'a'")
    await check(engine, MEMBERS)
    await engine.admin.execute("INSERT INTO orgs VALUES ('c', 'A')")
    await check(engine, MEMBERS)


@pytest.mark.parametrize(
    "function",
    [
        """CREATE FUNCTION visible_ids() RETURNS SETOF int LANGUAGE plpgsql STABLE SECURITY DEFINER
            AS $$ BEGIN RETURN QUERY EXECUTE 'SELECT d.id FROM public.do' || 'cs d
                WHERE d.org = ' || quote_literal('A'); END $$""",
        """CREATE FUNCTION inner_ids() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER
            AS $$ SELECT d.id FROM public.docs d WHERE d.org = 'A' $$;
        CREATE FUNCTION visible_ids() RETURNS SETOF int LANGUAGE plpgsql STABLE
            AS $$ BEGIN IF current_setting('ayb.user_id') = 'b' THEN
                RETURN QUERY SELECT inner_ids(); END IF; END $$""",
        """CREATE VIEW listed AS SELECT d.id FROM public.docs d WHERE d.org = 'A';
        CREATE FUNCTION visible_ids() RETURNS SETOF int LANGUAGE plpgsql STABLE SECURITY DEFINER
            AS $$ BEGIN RETURN QUERY SELECT l.id FROM public.listed l; END $$""",
    ],
    ids=["name built at run time", "behind another function, for one user", "a view"],
)
@pytest.mark.parametrize("is_joining", [True, False])
async def test_function_that_reads_the_table_is_found_out(engine, function, is_joining):
    """An image of then is not judged by what a function reads of the table now."""
    engine.visibility = Visibility(engine.pool, observer=engine.recorder, is_joining=is_joining)
    await engine.admin.execute(
        f"{HELPERS} {function}; CREATE POLICY p ON docs USING (id IN (SELECT visible_ids()))"
    )
    await engine.admin.execute("CREATE INDEX ON docs (org); SET enable_seqscan = off")
    private = {"id": 2, "org": "B", "body": "secret"}
    await engine.admin.execute("UPDATE docs SET body = '' WHERE id = 2")
    await engine.admin.execute("UPDATE docs SET org = 'A' WHERE id = 2")
    seen = await engine.ask("docs", MEMBERS, [private])
    assert all(seen.by(member) == set() for member in MEMBERS)
    assert engine.recorder.plans[-1][1] == "opaque"
    await check(engine, MEMBERS)


async def test_value_that_raises_for_one(engine):
    """A user for whom a function raises is denied and told; the others are joined."""
    await engine.admin.execute(
        HELPERS
        + """CREATE FUNCTION my_org() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
            IF current_setting('ayb.user_id') = 'c' THEN RAISE 'not you'; END IF;
            RETURN upper(current_setting('ayb.user_id')); END $$;
        CREATE POLICY p ON docs USING (org = my_org())"""
    )
    seen = await engine.ask("docs", MEMBERS, await engine.images("docs"))
    assert [seen.by(m) for m in ("a", "b", "c", "n")] == [{0}, {1}, set(), set()]
    assert seen.broken() == {"c"}
    assert engine.recorder.plans[-1][1] == "joined"


async def test_captured_names_are_not_found(engine):
    """An object that somebody makes later in the search path is not what the policy meant."""
    await engine.admin.execute(
        HELPERS
        + """CREATE FUNCTION tags() RETURNS text[] LANGUAGE sql STABLE AS
            $$ SELECT ARRAY[current_setting('ayb.user_id')] $$;
        CREATE POLICY p ON docs USING (array_position(tags(), 'a') IS NOT NULL AND org = 'A');
        CREATE FUNCTION public.array_position(text[], text) RETURNS int LANGUAGE sql
            AS $$ SELECT 1 $$;"""
    )
    seen = await engine.ask("docs", MEMBERS, await engine.images("docs"))
    assert [seen.by(m) for m in ("a", "b", "c", "n")] == [{0}, set(), set(), set()]
    assert engine.recorder.plans[-1][1] == "joined"


@pytest.mark.parametrize("negated", ["", "NOT "])
@pytest.mark.parametrize(("collation", "form"), [("C", "looped"), ("default", "joined")])
async def test_members_under_rls_and_collations(engine, negated, collation, form):
    """A set of texts that are equal by a collation of their own is not taken for another set."""
    await engine.admin.execute(
        HELPERS
        + f"""CREATE TABLE listed (user_id text, org text COLLATE "{collation}");
        INSERT INTO listed VALUES ('a', 'A'), ('b', 'B'), ('b', NULL);
        GRANT SELECT ON listed TO ayb_authenticated;
        ALTER TABLE listed ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON listed USING (user_id = current_setting('ayb.user_id'));
        CREATE POLICY p ON docs USING ({negated}EXISTS (
            SELECT FROM listed l WHERE l.org = docs.org AND l.org <> 'none'))"""
    )
    await check(engine, MEMBERS)
    assert engine.recorder.plans[-1][1] == form


@pytest.mark.parametrize("negated", ["", "NOT "])
@pytest.mark.parametrize("selected", ["count(*)", "max(l.org)", "unnest(l.tags)", "l.tags[1]"])
async def test_what_an_exists_selects(engine, selected, negated):
    """An aggregate makes a row of none; a function that returns a set may make none of a row."""
    await engine.admin.execute(
        HELPERS
        + f"""CREATE TABLE listed (user_id text, org text, tags text[]);
        INSERT INTO listed VALUES ('a', 'A', '{{x}}'), ('b', 'B', '{{}}'), ('b', 'A', '{{}}');
        GRANT SELECT ON listed TO ayb_authenticated;
        ALTER TABLE listed ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON listed USING (user_id = current_setting('ayb.user_id'));
        CREATE POLICY p ON docs USING ({negated}EXISTS (
            SELECT {selected} FROM listed l WHERE l.org = docs.org))"""
    )
    await check(engine, MEMBERS)
    assert engine.recorder.plans[-1][1] == ("joined" if "(" not in selected else "looped")


async def test_setting_of_the_database(engine):
    """A setting that nobody sets here counts as the session has it; another value is noticed."""
    await engine.admin.execute(
        HELPERS + "CREATE POLICY p ON docs USING (org = coalesce(current_setting('app.Ä', true), "
        "upper(current_setting('ayb.user_id'))))"
    )
    await check(engine, MEMBERS)
    await engine.admin.execute(f"""ALTER DATABASE "{engine.database.name}" SET "app.Ä" = 'B'""")
    await engine.pool.expire_connections()
    seen = await engine.ask("docs", MEMBERS, await engine.images("docs"))
    assert all(seen.by(member) == {1} for member in MEMBERS)


async def test_values_are_of_one_snapshot(engine):
    """Values and what they are joined with are of one moment, though a change comes between."""
    await engine.admin.execute(
        HELPERS
        + """CREATE TABLE banned (user_id text); GRANT SELECT ON banned TO ayb_authenticated;
        INSERT INTO banned VALUES ('a');
        CREATE FUNCTION my_org() RETURNS text LANGUAGE plpgsql STABLE AS $$
        DECLARE found text; BEGIN
            found := (SELECT o.org FROM public.orgs o
                WHERE o.user_id = current_setting('ayb.user_id'));
            PERFORM pg_sleep(0.3);
            RETURN found;
        END $$;
        CREATE POLICY p ON docs USING (org = my_org() AND NOT EXISTS (
            SELECT FROM banned b WHERE b.user_id = current_setting('ayb.user_id')
            AND docs.id > 0))"""
    )
    images = await engine.images("docs")
    await engine.ask("docs", {"a": plain(user="a")}, [])
    asking = asyncio.ensure_future(engine.ask("docs", {"a": plain(user="a")}, images))
    await asyncio.sleep(0.15)
    await engine.admin.execute(
        "BEGIN; DELETE FROM banned; UPDATE orgs SET org = 'B' WHERE user_id = 'a'; COMMIT"
    )
    assert (await asking).by("a") in (set(), {1})
    assert engine.recorder.plans[-1][1] == "joined"


@pytest.mark.parametrize(
    "policy",
    [
        "has_table_privilege('orgs', 'SELECT') AND org = upper(current_setting('ayb.user_id'))",
        """EXISTS (SELECT FROM (SELECT current_setting('ayb.user_id') AS me) x
            WHERE upper(x.me) = docs.org)""",
    ],
)
async def test_names_by_the_search_path(engine, policy):
    """What once failed at each batch is joined."""
    await engine.admin.execute(f"{HELPERS} CREATE POLICY p ON docs USING ({policy})")
    await check(engine, MEMBERS)
    assert set(engine.recorder.questions) == {"joined"}
    assert engine.recorder.failures == []


async def test_claims_are_computed_once(engine):
    """Users whose claims give the same values are asked about once, whatever else they claim."""
    await engine.admin.execute(
        HELPERS + "CREATE POLICY p ON docs USING "
        "(org = (current_setting('request.jwt.claims')::jsonb ->> 'org'))"
    )
    members = {n: plain(claims=json.dumps({"sub": str(n), "org": "AB"[n % 2]})) for n in range(20)}
    await check(engine, members)
    plan = engine.visibility.plan_of(await engine.relid("docs"), ROLE)
    assert plan.computed is None
    assert plan.kept_values == 1
