"""Ways in which the answer for a client might differ from its SELECT."""

from __future__ import annotations

import pytest

from gateway.visibility.engine import Visibility
from tests.integration.visibility.conftest import ROLE, settings
from tests.integration.visibility.test_leaks import BOTH_FORMS

MEMBERS = {name: settings(user=name) for name in ("a", "b", "c")}
TABLE = """
    CREATE TABLE docs (id int PRIMARY KEY, owner text, team int, body text);
    INSERT INTO docs VALUES (1, 'a', 1, 'x'), (2, 'b', 2, 'y'), (3, 'c', 2, 'z');
    CREATE TABLE members (team int, who text);
    INSERT INTO members VALUES (1, 'a'), (2, 'b'), (1, 'c');
    GRANT SELECT ON docs, members TO ayb_authenticated;
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
"""
ME = "current_setting('ayb.user_id')"
CASES = {
    "a view with the caller's rights": f"""
        ALTER TABLE members ENABLE ROW LEVEL SECURITY;
        CREATE POLICY m ON members USING (who = {ME});
        CREATE VIEW mine WITH (security_invoker = true) AS SELECT team FROM members;
        GRANT SELECT ON mine TO ayb_authenticated;
        CREATE POLICY p ON docs USING (team IN (SELECT team FROM mine))""",
    "a view with its owner's rights": f"""
        ALTER TABLE members ENABLE ROW LEVEL SECURITY;
        CREATE VIEW mine AS SELECT team FROM members WHERE who = {ME};
        GRANT SELECT ON mine TO ayb_authenticated;
        CREATE POLICY p ON docs USING (team IN (SELECT team FROM mine))""",
    "a generated column": f"""
        ALTER TABLE docs ADD twice int GENERATED ALWAYS AS (team * 2) STORED;
        CREATE POLICY p ON docs USING (twice = (SELECT 2 * team FROM members WHERE who = {ME}))""",
    "a domain whose check calls a function": f"""
        CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            PERFORM set_config('ayb.user_id', 'a', true); RETURN true; END $$;
        CREATE DOMAIN name_ AS text CHECK (fine(VALUE));
        ALTER TABLE docs ADD who name_ DEFAULT 'b';
        CREATE POLICY p ON docs USING (who <> '' AND owner = {ME})""",
    "a domain's check in a column that no policy reads": f"""
        CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            PERFORM set_config('ayb.user_id', 'a', true); RETURN true; END $$;
        CREATE DOMAIN name_ AS text CHECK (fine(VALUE));
        ALTER TABLE docs ADD who name_ DEFAULT 'b';
        CREATE POLICY p ON docs USING (owner = {ME})""",
    "a domain that allows no null in a column that no policy reads": f"""
        CREATE DOMAIN name_ AS text NOT NULL CHECK (VALUE <> '');
        ALTER TABLE docs ADD who name_ DEFAULT 'b';
        CREATE POLICY p ON docs USING (owner = {ME})""",
    "has_column_privilege": f"""
        CREATE POLICY p ON docs USING
            (has_column_privilege('docs', 'owner', 'SELECT') AND owner = {ME})""",
    "has_table_privilege": f"""
        CREATE POLICY p ON docs USING
            (has_table_privilege(current_user, 'docs', 'SELECT') AND owner = {ME})""",
    "a function with a setting of its own": """
        CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE SET ayb.user_id = 'b'
            AS $$ SELECT current_setting('ayb.user_id') $$;
        CREATE POLICY p ON docs USING (owner = me())""",
    "a function with a search path of its own": f"""
        CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO ayb_authenticated;
        CREATE TABLE other.members AS SELECT 2 AS team, 'a'::text AS who;
        GRANT SELECT ON other.members TO ayb_authenticated;
        CREATE FUNCTION team_of(text) RETURNS int LANGUAGE sql STABLE SET search_path = other
            AS $$ SELECT team FROM members WHERE who = $1 $$;
        CREATE POLICY p ON docs USING (team = team_of({ME}))""",
    "a function that takes a role": f"""
        CREATE FUNCTION taking() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
            PERFORM set_config('role', 'none', true); RETURN true; END $$;
        CREATE POLICY p ON docs USING (taking() AND owner = {ME} AND current_user <> 'x')""",
    "who asks": f"""
        CREATE POLICY p ON docs USING (current_user = 'ayb_authenticated' AND owner = {ME})""",
    "who is logged in": f"""
        CREATE POLICY p ON docs USING
            (pg_has_role('ayb_authenticated', 'USAGE') AND owner = {ME})""",
    "a policy of partitions": f"""
        DROP TABLE docs;
        CREATE TABLE docs (id int, owner text, team int, body text, PRIMARY KEY (id))
            PARTITION BY RANGE (id);
        CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (3);
        CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM (3) TO (9);
        INSERT INTO docs VALUES (1, 'a', 1, 'x'), (2, 'b', 2, 'y'), (3, 'c', 2, 'z');
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        ALTER TABLE docs_1 ENABLE ROW LEVEL SECURITY;
        CREATE POLICY hidden ON docs_1 USING (false);
        CREATE POLICY p ON docs USING (owner = {ME})""",
    "a policy for everybody and one that restricts a role": f"""
        CREATE ROLE crew_of_odd_policies; GRANT crew_of_odd_policies TO ayb_authenticated;
        CREATE POLICY p ON docs TO PUBLIC USING (true);
        CREATE POLICY q ON docs AS RESTRICTIVE TO crew_of_odd_policies USING (owner = {ME})""",
    "a row compared with another": f"""
        CREATE POLICY p ON docs USING ((owner, team) =
            ANY (SELECT who, team FROM members WHERE who = {ME}))""",
    "three values of logic": f"""
        INSERT INTO members VALUES (NULL, 'a');
        CREATE POLICY p ON docs USING (team NOT IN (SELECT team FROM members WHERE who = {ME}))""",
    "the time of the statement": f"""
        CREATE POLICY p ON docs USING (owner = {ME} AND now() = statement_timestamp())""",
    "a lateral join of settings": f"""
        CREATE POLICY p ON docs USING (EXISTS (SELECT FROM members m,
            LATERAL (SELECT {ME} AS me) AS s WHERE m.who = s.me AND m.team = docs.team))""",
    "a limit": f"""
        CREATE POLICY p ON docs USING (team =
            (SELECT m.team FROM members m WHERE m.who >= {ME} ORDER BY m.who LIMIT 1))""",
    "an aggregate": f"""
        CREATE POLICY p ON docs USING ((SELECT count(*) FROM members m
            WHERE m.team = docs.team AND m.who = {ME}) > 0)""",
    "a recursive query": f"""
        CREATE POLICY p ON docs USING (team IN (WITH RECURSIVE t (n) AS (
            SELECT m.team FROM members m WHERE m.who = {ME} UNION SELECT n + 1 FROM t WHERE n < 2)
            SELECT n FROM t))""",
    "json with a null": f"""
        CREATE POLICY p ON docs USING (
            (json_build_object('me', {ME}, 'x', body) ->> 'me') = owner)""",
    "a random number": """CREATE POLICY p ON docs USING (random() >= 0)""",
    "a list in the claim": f"""
        CREATE POLICY p ON docs USING (owner = ANY (string_to_array({ME} || ',c', ',')))""",
}


@BOTH_FORMS
@pytest.mark.parametrize("case", CASES)
async def test_the_answer_is_that_of_a_select(engine, case, is_joining):
    """Nobody gets a row that a SELECT hides, or misses one that it shows, except by an error."""
    if "security_invoker" in CASES[case] and engine.admin.get_server_version().major < 15:
        pytest.skip("views with their caller's rights came with Postgres 15")
    await engine.admin.execute(TABLE + CASES[case])
    try:
        images = await engine.images("docs")
        engine.visibility = Visibility(engine.pool, observer=engine.recorder, is_joining=is_joining)
        seen = await engine.ask("docs", MEMBERS, images)
        for member in MEMBERS:
            truth = await selected(engine, member)
            form = engine.recorder.plans[-1]
            assert seen.by(member) <= truth, form
            if member not in seen.broken():
                assert truth == seen.by(member), form
    finally:
        await engine.admin.execute(
            "DROP OWNED BY crew_of_odd_policies; DROP ROLE crew_of_odd_policies"
            if "restricts a role" in case
            else "SELECT 1"
        )


async def selected(engine, member) -> set[int]:
    async with engine.admin.transaction():
        await engine.admin.execute(f"SET LOCAL ayb.user_id = '{member}'; SET LOCAL ROLE {ROLE}")
        return {row[0] - 1 for row in await engine.admin.fetch("SELECT id FROM docs")}
