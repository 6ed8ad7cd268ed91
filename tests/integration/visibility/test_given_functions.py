"""Functions that policies give something of the row: known to read other tables only, or opaque.

What a function can read is bounded by the names in its body: see `ayb_realtime.reach_of`. One that
cannot read the captured table is computed for each cohort and each combination of arguments; any
other leaves its table to SELECTs.
"""

from __future__ import annotations

import json

import pytest

from gateway.visibility.engine import Image, Visibility
from tests.integration.visibility.conftest import ROLE, gateway_pool, settings

MEMBERS = {name: settings(user=name) for name in ("a", "b", "c", "")}
TABLE = """
    CREATE TABLE docs (id int PRIMARY KEY, owner text, team int, body text, kind text,
        score numeric, key uuid);
    INSERT INTO docs VALUES
        (1, 'a', 1, 'x', 'open', 1, '00000000-0000-4000-8000-000000000001'),
        (2, 'b', 2, 'y', 'open', 1.0, '00000000-0000-4000-8000-000000000002'),
        (3, 'c', 2, 'z', NULL, 2.50, NULL),
        (4, NULL, NULL, NULL, 'shut', NULL, NULL);
    CREATE TABLE members (team int, who text, level int);
    INSERT INTO members VALUES (1, 'a', 1), (2, 'b', 2), (1, 'c', 3), (2, 'c', NULL);
    CREATE TABLE secured (LIKE members);
    INSERT INTO secured TABLE members;
    ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON secured USING (who = current_setting('ayb.user_id'));
    GRANT SELECT ON docs, members, secured TO ayb_authenticated;
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE
        AS $$ SELECT nullif(current_setting('ayb.user_id', true), '') $$;
"""
ON_TEAM = """EXISTS (SELECT FROM public.members m WHERE m.team = $1 AND m.who = me())"""
BOOL = "RETURNS boolean LANGUAGE sql STABLE"


def on_team(text: str = ON_TEAM, options: str = "") -> str:
    """A function `on_team(int)`, with a body."""
    return f"CREATE FUNCTION on_team(int) {BOOL} {options} AS $$ SELECT {text} $$;"


KNOWN = {
    "a definer": (on_team(options="SECURITY DEFINER"), "on_team(team)"),
    "with the caller's rights": (on_team(), "on_team(team)"),
    "with a search path": (
        on_team("EXISTS (SELECT FROM members m WHERE m.team = $1 AND m.who = me())",
                "SECURITY DEFINER SET search_path = public"), "on_team(team)"),
    "with an empty search path": (
        on_team("EXISTS (SELECT FROM public.members m WHERE m.team = $1 AND m.who = public.me())",
                "SET search_path = ''"), "on_team(team)"),
    "without a search path": (
        on_team("EXISTS (SELECT FROM members m WHERE m.team = $1 AND m.who = me())"),
        "on_team(team)"),
    "negated": (on_team(), "NOT on_team(team)"),
    "NULL is not false": (
        on_team("(SELECT m.level > 1 FROM public.members m WHERE m.team = $1 AND m.who = me())"),
        "NOT on_team(team)"),
    "tested for NULL": (
        on_team("(SELECT m.level > 1 FROM public.members m WHERE m.team = $1 AND m.who = me())"),
        "on_team(team) IS NULL"),
    "beside another arm": (on_team(), "owner = me() OR on_team(team)"),
    "beside another condition": (on_team(), "kind = 'open' AND on_team(team)"),
    "in a CASE": (on_team(), "CASE WHEN kind = 'open' THEN on_team(team) ELSE owner = me() END"),
    "twice": (on_team(), "on_team(team) AND NOT on_team(id)"),
    "a restrictive policy": (
        on_team() + "CREATE POLICY r ON docs AS RESTRICTIVE USING (on_team(team));", "true"),
    "with the client as an argument": (
        f"""CREATE FUNCTION has_team(who text, team int) {BOOL} SECURITY DEFINER AS $$ SELECT
            EXISTS (SELECT FROM public.members m WHERE m.team = $2 AND m.who = has_team.who) $$;""",
        "has_team(me(), team)"),
    "with two columns": (
        f"""CREATE FUNCTION is_of(team int, who text) {BOOL} AS $$ SELECT who = me() OR EXISTS (
            SELECT FROM public.members m WHERE m.team = is_of.team AND m.who = me()) $$;""",
        "is_of(team, owner)"),
    "a column of the same name as an argument": (
        f"""CREATE FUNCTION is_of(team int) {BOOL} AS $$ SELECT EXISTS (
            SELECT FROM public.members m WHERE team = is_of.team AND m.who = me()) $$;""",
        "is_of(team)"),
    "a scalar": (
        """CREATE FUNCTION level_on(int) RETURNS int LANGUAGE sql STABLE AS $$
            SELECT m.level FROM public.members m WHERE m.team = $1 AND m.who = me() $$;""",
        "level_on(team) >= id - 1"),
    "a text": (
        """CREATE FUNCTION role_on(int) RETURNS text LANGUAGE sql STABLE AS $$
            SELECT CASE m.level WHEN 1 THEN 'it''s, "one"' ELSE NULL END
            FROM public.members m WHERE m.team = $1 AND m.who = me() $$;""",
        """coalesce(role_on(team), 'none') = 'it''s, "one"'"""),
    "equal arguments that are written otherwise": (
        f"CREATE FUNCTION is_short(numeric) {BOOL} AS $$ SELECT length($1::text) = 1 $$;",
        "is_short(score)"),
    "NULL as an argument": (
        f"CREATE FUNCTION is_none(text) {BOOL} AS $$ SELECT $1 IS NULL OR $1 = 'NULL' $$;",
        "is_none(owner)"),
    "a uuid": (
        f"CREATE FUNCTION is_first(uuid) {BOOL} AS $$ SELECT $1::text LIKE '%1' AND me() > 'a' $$;",
        "is_first(key)"),
    "keywords that are names of columns, too": (
        f"""ALTER TABLE docs ADD "user" text, ADD "true" boolean, ADD "end" int;
        UPDATE docs SET "user" = 'none', "true" = false, "end" = 5;
        CREATE FUNCTION is_of(int, name, boolean, text) {BOOL} AS $$ SELECT $2 <> $4 AND $3
            AND EXISTS (SELECT FROM public.members m WHERE m.team = $1 AND m.who = me()) $$;""",
        """is_of(CASE WHEN kind = 'open' THEN team ELSE 0 END, USER, true, "user")"""),
    "an expression as an argument": (on_team(), "on_team(coalesce(team, 1))"),
    "a default": (
        f"""CREATE FUNCTION is_of(int, text DEFAULT me()) {BOOL} AS $$ SELECT EXISTS (
            SELECT FROM public.members m WHERE m.team = $1 AND m.who = $2) $$;""",
        "is_of(team)"),
    "functions within functions": (
        on_team("""(SELECT inner_team($1))""").replace("CREATE", f"""
            CREATE FUNCTION inner_team(int) {BOOL} SECURITY DEFINER
            AS $$ SELECT {ON_TEAM} $$; CREATE""", 1), "on_team(team)"),
    "a SQL-standard body": (
        f"""CREATE FUNCTION on_team(team int) {BOOL} BEGIN ATOMIC
            SELECT EXISTS (SELECT FROM members m WHERE m.team = on_team.team AND m.who = me());
            END;""", "on_team(team)"),
    "a table with RLS of its own": (
        on_team("EXISTS (SELECT FROM public.secured m WHERE m.team = $1)"), "on_team(team)"),
    "a table with RLS, read by its owner": (
        on_team("EXISTS (SELECT FROM public.secured m WHERE m.team = $1 AND m.who = me())",
                "SECURITY DEFINER"), "on_team(team)"),
    "a view": (
        "CREATE VIEW seen AS SELECT * FROM members; GRANT SELECT ON seen TO ayb_authenticated;"
        + on_team("EXISTS (SELECT FROM public.seen m WHERE m.team = $1 AND m.who = me())"),
        "on_team(team)"),
    "a partitioned table": (
        """CREATE TABLE parted (team int, who text) PARTITION BY LIST (team);
        CREATE TABLE parted_one PARTITION OF parted FOR VALUES IN (1);
        CREATE TABLE parted_two PARTITION OF parted DEFAULT;
        INSERT INTO parted SELECT team, who FROM members;
        GRANT SELECT ON parted TO ayb_authenticated;"""
        + on_team("EXISTS (SELECT FROM public.parted m WHERE m.team = $1 AND m.who = me())"),
        "on_team(team)"),
    "an enum": (
        f"""CREATE TYPE mood AS ENUM ('low', 'it''s "high"');
        ALTER TABLE docs ADD mood mood; UPDATE docs SET mood = 'it''s "high"' WHERE id < 3;
        CREATE FUNCTION is_high(mood) {BOOL} AS $$ SELECT $1 > 'low' AND me() = 'a' $$;""",
        "is_high(mood)"),
    "a membership of two hops": (
        "CREATE TABLE projects (id int, team int); INSERT INTO projects VALUES (1, 1), (2, 2);"
        + on_team("""EXISTS (SELECT FROM public.projects p JOIN public.members m USING (team)
            WHERE p.id = $1 AND m.who = me())""", "SECURITY DEFINER"), "on_team(id)"),
    "a recursive query": (
        on_team("""$1 IN (WITH RECURSIVE t (n) AS (SELECT m.team FROM public.members m
            WHERE m.who = me() UNION SELECT n + 1 FROM t WHERE n < 2) SELECT n FROM t)"""),
        "on_team(team)"),
    "several statements": (
        on_team(f"true; SELECT {ON_TEAM}"), "on_team(team)"),
    "IMMUTABLE, which is a lie": (
        on_team().replace("STABLE", "IMMUTABLE"), "on_team(team)"),
    "STRICT": (on_team("true", "STRICT"), "on_team(team)"),
    "PL/pgSQL": (
        """CREATE FUNCTION on_team(asked int) RETURNS boolean LANGUAGE plpgsql STABLE
            SECURITY DEFINER AS $$ BEGIN
            RETURN EXISTS (SELECT FROM public.members m WHERE m.team = asked AND m.who = me());
            END $$;""", "on_team(team)"),
}  # fmt: skip
"""Functions that cannot read the table: they are joined, and answer as a SELECT does."""

OTHERS = """CREATE TABLE other (id int, owner text); GRANT SELECT ON other TO ayb_authenticated;"""
READS_DOCS = "SELECT EXISTS (SELECT FROM public.docs d WHERE d.id = $1 AND d.kind = 'open')"
BY_ID = f"CREATE FUNCTION can_read(int) {BOOL} SECURITY DEFINER AS $$ {{}} $$;"
UNKNOWN = {
    "the table": BY_ID.format(READS_DOCS),
    "the table, without its schema": BY_ID.format(READS_DOCS.replace("public.", "")),
    "the table, quoted": BY_ID.format(READS_DOCS.replace("docs", '"docs"')),
    "the table, in capitals": BY_ID.format(READS_DOCS.replace("docs", "DOCS")),
    "the table, escaped": BY_ID.format(
        READS_DOCS.replace("public.docs", """public.U&"d!006Fcs" UESCAPE '!'""")),
    "the table, escaped by a letter": BY_ID.format(
        READS_DOCS.replace("public.docs", """public.U&"dz006Fcs" UESCAPE 'z'""")),
    "the table, behind a comment": BY_ID.format(
        READS_DOCS.replace("public.docs", "public/* a */./* b */docs")),
    "TABLE": BY_ID.format("SELECT $1 IN (SELECT t.id FROM (TABLE docs) t WHERE t.kind = 'open')"),
    "another function": f"""CREATE FUNCTION inner_read(int) {BOOL} AS $$ {READS_DOCS} $$;"""
        + BY_ID.format("SELECT inner_read($1)"),
    "a function in attribute notation": f"""CREATE FUNCTION shown(members) {BOOL}
        AS $$ {READS_DOCS.replace('$1', '$1.team')} $$;"""
        + BY_ID.format("SELECT (s.m).shown FROM (SELECT ROW($1, '', 0)::members AS m) AS s"),
    "a function's default": f"""CREATE FUNCTION open_ids() RETURNS int[] LANGUAGE sql STABLE
        AS $$ SELECT array_agg(d.id) FROM public.docs d WHERE d.kind = 'open' $$;
        CREATE FUNCTION among(int, int[] DEFAULT open_ids()) {BOOL} AS 'SELECT $1 = ANY ($2)';"""
        + BY_ID.format("SELECT among($1)"),
    "a SQL-standard body": BY_ID.replace("AS $$ {} $$", "RETURN ({})").format(READS_DOCS),
    "a view": """CREATE VIEW shown AS SELECT id FROM docs WHERE kind = 'open';"""
        + BY_ID.format("SELECT EXISTS (SELECT FROM public.shown s WHERE s.id = $1)"),
    "a view of a view": """CREATE VIEW inner_shown AS SELECT id FROM docs WHERE kind = 'open';
        CREATE VIEW shown AS TABLE inner_shown;"""
        + BY_ID.format("SELECT EXISTS (SELECT FROM public.shown s WHERE s.id = $1)"),
    "a materialized view": """CREATE MATERIALIZED VIEW shown AS
            SELECT id FROM docs WHERE kind = 'open';"""
        + BY_ID.format("SELECT EXISTS (SELECT FROM public.shown s WHERE s.id = $1)"),
    "a parent": """CREATE TABLE base (id int, owner text, team int, body text, kind text,
            score numeric, key uuid); ALTER TABLE docs INHERIT base;"""
        + BY_ID.format(READS_DOCS.replace("docs", "base")),
    "a sibling's parent": """CREATE TABLE base (id int, owner text, team int, body text, kind text,
            score numeric, key uuid); ALTER TABLE docs INHERIT base;
            CREATE TABLE sibling () INHERITS (base);"""
        + BY_ID.format(READS_DOCS.replace("docs", "sibling")),
    "the policy of another table": OTHERS + """ALTER TABLE other ENABLE ROW LEVEL SECURITY;
        INSERT INTO other SELECT id, owner FROM docs;
        CREATE FUNCTION open_now(int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
            SELECT EXISTS (SELECT FROM public.docs d WHERE d.id = $1 AND d.kind = 'open') $$;
        CREATE POLICY p ON other USING (open_now(id));"""
        + BY_ID.format("SELECT EXISTS (SELECT FROM public.other o WHERE o.id = $1)").replace(
            "SECURITY DEFINER", ""),
    "dynamic SQL": """CREATE FUNCTION hidden(int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
        DECLARE found boolean; BEGIN EXECUTE 'SELECT EXISTS (SELECT FROM public.do' ||
            'cs d WHERE d.id = $1 AND d.kind = ''open'')' INTO found USING $1; RETURN found;
        END $$;""" + BY_ID.format("SELECT public.hidden($1)"),
    "dynamic SQL as XML": BY_ID.format("""SELECT query_to_xml('SELECT 1 FROM public.do' ||
        'cs WHERE kind = ''open'' AND id = ' || $1, true, true, '')::text LIKE '%column%'"""),
    "an operator": f"""CREATE FUNCTION shown(int, int) {BOOL} AS $$ {READS_DOCS} $$;
        CREATE OPERATOR public.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = shown);"""
        + BY_ID.format("SELECT $1 OPERATOR(public.@@@) 1"),
    "a cast": f"""CREATE TYPE asked AS (id int);
        CREATE FUNCTION to_bool(asked) {BOOL} AS $$ {READS_DOCS.replace('$1', '$1.id')} $$;
        CREATE CAST (asked AS boolean) WITH FUNCTION to_bool(asked);"""
        + BY_ID.format("SELECT ROW($1)::asked::boolean"),
    "a domain's check": f"""CREATE FUNCTION shown(int) {BOOL} AS $$ {READS_DOCS} $$;
        CREATE DOMAIN checked AS int CHECK (shown(VALUE));"""
        + BY_ID.format("SELECT $1::checked IS NOT NULL"),
    "a statistic": BY_ID.format("SELECT EXISTS (SELECT FROM pg_stats s WHERE s.tablename = 'do'"
                                " || 'cs' AND s.attname = 'kind' AND $1 > 0)"),
    "an aggregate": f"""CREATE FUNCTION step(boolean, int) {BOOL}
        AS $$ {READS_DOCS.replace('$1', '$2')} $$;
        CREATE AGGREGATE any_shown(int) (SFUNC = step, STYPE = boolean);"""
        + BY_ID.format("SELECT any_shown($1)"),
}  # fmt: skip
"""Functions that read the table in some way: their tables are opaque."""

REFUSED = {
    "VOLATILE": on_team().replace("STABLE", "VOLATILE"),
    "a volatile function within": """CREATE FUNCTION dice() RETURNS int LANGUAGE sql
        AS 'SELECT 1';""" + on_team("$1 = dice()"),
    "chance": on_team("$1 > random() - 2"),
    "a sequence": "CREATE SEQUENCE numbers;" + on_team("$1 < (SELECT last_value FROM numbers) + 5"),
    "a setting that is made": on_team("set_config('ayb.user_id', 'a', true) = 'a'"),
    "a setting of its own": on_team(options="SET ayb.user_id = 'a'"),
    "the outbox": on_team("EXISTS (SELECT FROM ayb_realtime.changes) OR $1 > 0"),
    "another language": """CREATE FUNCTION on_team(int) RETURNS boolean LANGUAGE internal STABLE
        AS 'int4_bool';""",
    "EXECUTE": """CREATE FUNCTION on_team(int) RETURNS boolean LANGUAGE plpgsql STABLE
        AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN true; END $$;""",
    "a name that is not plain": on_team("""(SELECT "odd x" FROM (SELECT true) s ("odd x"))"""),
    "a name beyond ASCII": on_team("(SELECT größe FROM (SELECT true) s (größe))"),
}  # fmt: skip
"""Functions of which too little is known."""


async def plan_of(engine):
    return engine.visibility.plan_of(await engine.relid("docs"), ROLE)


async def selected(engine, member) -> set[int]:
    async with engine.database.connect() as client, client.transaction():
        await client.execute(f"SET LOCAL ayb.user_id = '{member}'; SET LOCAL ROLE {ROLE}")
        return {row[0] - 1 for row in await client.fetch("SELECT id FROM public.docs")}


async def compare(engine) -> None:
    """Compare what each member sees with what a SELECT shows it."""
    images = await engine.images("docs")
    seen = await engine.ask("docs", MEMBERS, images)
    assert not seen.answer.broken
    assert not seen.answer.undecidable
    for member in MEMBERS:
        assert seen.by(member) == await selected(engine, member), member


@pytest.mark.parametrize("case", KNOWN)
async def test_what_reads_other_tables_is_joined(engine, case):
    """The answer is that of a SELECT, by one question for all, or by one for each."""
    functions, policy = KNOWN[case]
    await engine.admin.execute(f"{TABLE} {functions} CREATE POLICY p ON docs USING ({policy})")
    engine.visibility = Visibility(engine.pool, observer=engine.recorder, verify_rate=1.0)
    await compare(engine)
    await engine.admin.execute("DELETE FROM members WHERE who = 'a'; UPDATE members SET level = 5")
    await compare(engine)
    assert [form for _, form, _ in engine.recorder.plans] == ["joined"]
    engine.visibility = Visibility(engine.pool, observer=engine.recorder, is_joining=False)
    await compare(engine)
    # A function that Postgres inlines may not find its names there: then a SELECT decides.
    assert engine.recorder.plans[-1][1] in ("looped", "opaque")
    assert engine.recorder.differences == 0


@pytest.mark.parametrize("case", KNOWN)
async def test_rows_that_have_changed_are_judged_as_they_were(engine, case):
    """An image is judged though its row is gone: a SELECT could only withhold it."""
    functions, policy = KNOWN[case]
    await engine.admin.execute(f"{TABLE} {functions} CREATE POLICY p ON docs USING ({policy})")
    images = await engine.images("docs")
    shown = {member: await selected(engine, member) for member in MEMBERS}
    await engine.admin.execute("DELETE FROM docs")
    seen = await engine.ask("docs", MEMBERS, images)
    assert {member: seen.by(member) for member in MEMBERS} == shown


@pytest.mark.parametrize("is_joining", [True, False])
@pytest.mark.parametrize("case", UNKNOWN)
async def test_what_may_read_the_table_judges_no_image(engine, case, is_joining):
    """A private text that was blanked, and then published, is shown to nobody."""
    await engine.admin.execute(
        f"{TABLE} {UNKNOWN[case]} CREATE POLICY p ON docs USING (can_read(id))"
    )
    engine.visibility = Visibility(engine.pool, observer=engine.recorder, is_joining=is_joining)
    private = {"id": 4, "owner": None, "team": None, "body": "secret", "kind": "shut",
               "score": None, "key": None}  # fmt: skip
    await engine.admin.execute("UPDATE docs SET body = '', kind = 'open' WHERE id = 4; ANALYZE")
    if case == "a materialized view":
        await engine.admin.execute("REFRESH MATERIALIZED VIEW shown")
    seen = await engine.ask("docs", MEMBERS, [private])
    assert all(seen.by(member) == set() for member in MEMBERS)
    assert (await plan_of(engine)).form == "opaque"


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_not_known_is_opaque(engine, case):
    """A function about which too little is known leaves its table to SELECTs, and is named."""
    await engine.admin.execute(
        f"{TABLE} {REFUSED[case]} CREATE POLICY p ON docs USING (on_team(team))"
    )
    await engine.ask("docs", MEMBERS, await engine.images("docs"))
    plan = await plan_of(engine)
    assert plan.form == "opaque"
    assert plan.reason.startswith("a policy calls public.on_team(), which may be given something "
                                  "of the row, and ")  # fmt: skip


REPLACED = {
    "the function": f"CREATE OR REPLACE FUNCTION on_team(int) {BOOL} SECURITY DEFINER "
        f"AS $$ {READS_DOCS} $$",
    "a function that it calls": "CREATE OR REPLACE FUNCTION me() RETURNS text LANGUAGE sql STABLE "
        "SECURITY DEFINER AS $$ SELECT d.kind FROM public.docs d WHERE d.id = 4 $$",
    "the table, by a view": """ALTER TABLE members RENAME TO former;
        CREATE VIEW members AS SELECT team, 'open' AS who, 1 AS level FROM docs;
        GRANT SELECT ON members TO ayb_authenticated""",
    "the name, earlier in the search path": """CREATE SCHEMA earlier;
        GRANT USAGE ON SCHEMA earlier TO ayb_authenticated;
        CREATE VIEW earlier.members AS SELECT id AS team, 'open' AS who, 1 AS level
            FROM public.docs WHERE kind = 'open';
        GRANT SELECT ON earlier.members TO ayb_authenticated;
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = earlier, public',
            current_database()); END $$""",
    "a function of Postgres": """CREATE FUNCTION public.length(varchar) RETURNS int
        LANGUAGE sql STABLE SECURITY DEFINER
        AS $$ SELECT count(*)::int FROM public.docs d WHERE d.kind = 'open' $$""",
    "the table, by a parent": """CREATE TABLE base (team int, who text, level int);
        ALTER TABLE members INHERIT base; ALTER TABLE docs ADD who text, ADD level int;
        ALTER TABLE docs INHERIT base""",
    "the policy of a table": """ALTER TABLE members ENABLE ROW LEVEL SECURITY;
        CREATE FUNCTION open_team(int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
            SELECT EXISTS (SELECT FROM public.docs d WHERE d.team = $1 AND d.kind = 'open') $$;
        CREATE POLICY p ON members USING (open_team(team))""",
    "an operator": f"""CREATE FUNCTION same(int, int) {BOOL} SECURITY DEFINER AS $$ SELECT EXISTS (
            SELECT FROM public.docs d WHERE d.kind = 'open' AND d.id = 4) $$;
        CREATE OPERATOR public.= (LEFTARG = int, RIGHTARG = int, FUNCTION = same)""",
}  # fmt: skip


@pytest.mark.parametrize("case", REPLACED)
async def test_what_is_replaced_later_is_noticed(engine, case):
    """What was known of a function does not outlast a change to anything that it can name."""
    await engine.admin.execute(
        TABLE
        + on_team("""EXISTS (SELECT FROM members m WHERE m.team = $1 AND m.who = me()
            AND length(m.who::varchar) > 0)""")
        + "CREATE POLICY p ON docs USING (on_team(team))"
    )
    await compare(engine)
    assert (await plan_of(engine)).form == "joined"
    await engine.admin.execute(REPLACED[case])
    await engine.pool.expire_connections()
    await engine.ask("docs", MEMBERS, await engine.images("docs"))
    assert (await plan_of(engine)).form == "opaque"
    await compare(engine)


async def test_a_table_of_the_session_stands_before_others(engine):
    """A temporary table of the gateway's session may capture a name, and is looked for."""
    await engine.admin.execute(
        TABLE
        + on_team("EXISTS (SELECT FROM members m WHERE m.team = $1 AND m.who = me())")
        + "CREATE POLICY p ON docs USING (on_team(team))"
    )
    async with gateway_pool(engine.database) as pool, pool.acquire() as connection:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(
            "CREATE TEMP VIEW members AS SELECT id AS team, kind AS who FROM public.docs"
        )
        facts = json.loads(
            await connection.fetchval("SELECT ayb_realtime.rules('docs'::regclass, $1)::text", ROLE)
        )
    [fact] = facts["functions"]
    assert "public.docs" in fact["doubt"]


async def test_one_for_whom_it_raises(engine):
    """A client for whom a function raises is asked by itself, as a SELECT would be: an arm that
    decides before it is enough.
    """
    await engine.admin.execute(
        TABLE
        + on_team("1 / (SELECT m.level - 1 FROM public.members m WHERE m.who = me() "
                  "AND m.level IS NOT NULL) > 0")
        + "CREATE POLICY p ON docs USING (CASE WHEN owner = me() THEN true ELSE on_team(team) END)"
    )  # fmt: skip
    seen = await engine.ask("docs", MEMBERS, await engine.images("docs"))
    assert (await plan_of(engine)).form == "joined"
    assert seen.by("a") == {0}
    assert seen.by("b") == {0, 1, 2, 3}
    assert seen.broken() == {"a"}


async def test_many_images_and_clients(engine):
    """Each combination of arguments is computed once for a client, in portions where needed."""
    await engine.admin.execute(
        TABLE
        + on_team(options="SECURITY DEFINER")
        + """INSERT INTO members SELECT n % 40, 'user ' || n FROM generate_series(1, 300) n;
        INSERT INTO docs SELECT n, 'x', n % 50 FROM generate_series(5, 700) n;
        CREATE POLICY p ON docs USING (on_team(team))"""
    )
    members = {n: settings(user=f"user {n}") for n in range(300)}
    rows = await engine.admin.fetch("SELECT row_to_json(d)::text, team FROM docs d ORDER BY id")
    seen = await engine.ask("docs", members, [Image(row[0].encode()) for row in rows])
    for n in range(1, 300):
        assert seen.by(n) == {i for i, row in enumerate(rows) if row[1] == n % 40}
    assert (await plan_of(engine)).form == "joined"
