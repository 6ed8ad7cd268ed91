"""Copies of a table's rows that a policy reaches by a detour: a text of then, and a rule of now."""

from __future__ import annotations

import pytest

from gateway.visibility.engine import Visibility
from tests.integration.visibility.test_cases import POSTS, A, post
from tests.integration.visibility.test_leaks import BOTH_FORMS, MEMBERS, form_of

COPY = """
    CREATE MATERIALIZED VIEW shown AS SELECT id FROM posts WHERE published;
    CREATE FUNCTION shown_ids() RETURNS SETOF bigint LANGUAGE {} STABLE SECURITY DEFINER
        AS $$ {} $$;
"""
OF_COPY = "SELECT s.id FROM public.shown s"
COPIES = {
    "a function": COPY.format("sql", OF_COPY),
    "a function in PL/pgSQL": COPY.format("plpgsql", f"BEGIN RETURN QUERY {OF_COPY}; END"),
    "a view": COPY.replace("CREATE F", "CREATE VIEW seen AS TABLE shown; CREATE F").format(
        "sql", OF_COPY.replace("shown", "seen")),
    "another function": """CREATE FUNCTION inner_ids() RETURNS SETOF bigint LANGUAGE plpgsql STABLE
        SECURITY DEFINER AS 'BEGIN RETURN QUERY SELECT s.id FROM public."Shown ones" s; END';"""
        + COPY.replace("VIEW shown", 'VIEW "Shown ones"').format("sql", "SELECT inner_ids()"),
    "the policy of another table": COPY.format("sql", OF_COPY) + """
        CREATE TABLE allowed (id bigint); INSERT INTO allowed VALUES (1);
        ALTER TABLE allowed ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON allowed TO ayb_authenticated;
        CREATE POLICY p ON allowed USING (id IN (SELECT shown_ids()))""",
    "an escaped name": COPY.format("sql", """SELECT s.id FROM public.U&"sh\\006Fwn" s"""),
    "a table with RLS, whose policy calls a function": COPY.format("sql", OF_COPY).replace(
        "shown_ids", "copied_ids") + """
        CREATE TABLE marked (id bigint); INSERT INTO marked VALUES (1);
        ALTER TABLE marked ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON marked TO ayb_authenticated;
        CREATE POLICY p ON marked USING (id IN (SELECT copied_ids()));
        CREATE FUNCTION shown_ids() RETURNS SETOF bigint LANGUAGE sql STABLE
            AS 'SELECT m.id FROM public.marked m'""",
    "a copy that a function made": COPY.replace(
        "SELECT id FROM posts WHERE published", "SELECT i AS id FROM public_ids() i").replace(
        "CREATE MAT", """CREATE FUNCTION public_ids() RETURNS SETOF bigint LANGUAGE sql STABLE
        AS 'SELECT id FROM public.posts WHERE published'; CREATE MAT""").format("sql", OF_COPY),
    "an operator": COPY.replace("CREATE F", f"""CREATE FUNCTION is_shown(int, int) RETURNS boolean
            LANGUAGE sql STABLE AS $$ SELECT EXISTS ({OF_COPY} WHERE s.id = $1) $$;
        CREATE OPERATOR public.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = is_shown);
        CREATE F""",
        1).format("sql", "SELECT 1::bigint WHERE 1 OPERATOR(public.@@@) 1"),
    "a foreign table": """CREATE FOREIGN DATA WRAPPER far;
        CREATE SERVER far FOREIGN DATA WRAPPER far;
        CREATE FOREIGN TABLE elsewhere (id bigint) SERVER far;
        CREATE FUNCTION shown_ids() RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
            AS 'SELECT e.id FROM public.elsewhere e'""",
}  # fmt: skip


COPIES["an operator of an extension in SQL"] = (
    COPIES["an operator"] + "; ALTER EXTENSION plpgsql ADD OPERATOR public.@@@ (int, int)"
)


@BOTH_FORMS
@pytest.mark.parametrize("case", COPIES)
async def test_a_copy_of_the_table_behind_a_function_judges_no_image(engine, case, is_joining):
    """A materialized view has the rows of its last refresh, and is read without a trace."""
    policy = "id IN (SELECT shown_ids())"
    if "allowed" in COPIES[case]:
        policy = "id IN (SELECT a.id FROM allowed a)"
    await engine.admin.execute(f"{POSTS} {COPIES[case]}; CREATE POLICY p ON posts USING ({policy})")
    [private] = await engine.insert("posts", post(1, A, published=False))
    view = '"Shown ones"' if case == "another function" else "shown"
    await engine.admin.execute("UPDATE posts SET published = true")
    if "MATERIALIZED" in COPIES[case]:
        await engine.admin.execute(f"REFRESH MATERIALIZED VIEW {view}")
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask("posts", MEMBERS, [private])
    assert seen.by("a") == seen.by("b") == set()
    assert await form_of(engine, "posts") == "opaque"


CHECKED = """
    CREATE MATERIALIZED VIEW shown AS SELECT id FROM posts WHERE published;
    CREATE FUNCTION is_shown(bigint) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
        AS $$ SELECT EXISTS (SELECT FROM public.shown s WHERE s.id = $1) $$;
    CREATE DOMAIN checked AS bigint CHECK (is_shown(VALUE));
    CREATE TYPE holder AS (id checked);
    CREATE TABLE marked (id bigint); INSERT INTO marked VALUES (1);
    ALTER TABLE marked ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON marked TO ayb_authenticated;
    CREATE POLICY p ON marked USING (id::checked > 0);
"""
TYPES_THAT_CALL = {
    "a domain": "id::checked > 0",
    "a composite with a domain": "('(' || id || ')')::holder IS NOT NULL",
    "the policy of another table": "id IN (SELECT m.id FROM marked m)",
}


@BOTH_FORMS
@pytest.mark.parametrize("case", TYPES_THAT_CALL)
async def test_a_type_whose_check_reads_a_copy_judges_no_image(engine, case, is_joining):
    """No dependency of a policy tells which functions the types in it call."""
    await engine.admin.execute(
        f"{POSTS} {CHECKED} CREATE POLICY p ON posts USING ({TYPES_THAT_CALL[case]})"
    )
    [private] = await engine.insert("posts", post(1, A, published=False))
    await engine.admin.execute("UPDATE posts SET published = true; REFRESH MATERIALIZED VIEW shown")
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask("posts", MEMBERS, [private])
    assert seen.by("a") == seen.by("b") == set()
    assert await form_of(engine, "posts") == "opaque"
