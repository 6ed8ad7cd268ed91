"""Ways in which one client's answer once reached another, or a text of then a rule of now."""

from __future__ import annotations

import pytest

from gateway.visibility.engine import Image, Visibility
from shared.errors import DatabaseUnavailableError
from tests.integration.visibility.conftest import ROLE, gateway_pool, settings
from tests.integration.visibility.test_cases import AUTHOR, POSTS, A, B, post

MEMBERS = {"a": settings(user=A), "b": settings(user=B)}
BOTH_FORMS = pytest.mark.parametrize("is_joining", [True, False])


async def form_of(engine, table: str) -> str:
    plan = engine.visibility.plan_of(await engine.relid(table), ROLE)
    return str(plan.form)


@BOTH_FORMS
async def test_a_setting_that_a_function_makes_does_not_stay(engine, is_joining):
    """A function that remembers in a setting remembers for its own client only."""
    await engine.admin.execute(
        """
        CREATE TABLE people (id uuid, org int);
        CREATE TABLE docs (id int PRIMARY KEY, org int);
        GRANT SELECT ON docs TO ayb_authenticated;
        CREATE FUNCTION my_org() RETURNS int LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ BEGIN
            IF coalesce(current_setting('app.org', true), '') = '' THEN
                PERFORM set_config('app.org', (SELECT org::text FROM people
                    WHERE id = current_setting('ayb.user_id')::uuid), true);
            END IF;
            RETURN current_setting('app.org')::int;
        END $$;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING (org = my_org());
        INSERT INTO docs VALUES (1, 1), (2, 2);
        """
    )
    await engine.admin.execute(f"INSERT INTO people VALUES ('{A}', 1), ('{B}', 2)")
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask("docs", MEMBERS, await engine.images("docs"))
    assert seen.by("a") == {0}
    assert seen.by("b") == {1}
    assert not seen.answer.broken


@BOTH_FORMS
@pytest.mark.parametrize("call", ["uid()", "(SELECT uid())", "wrapped()"])
async def test_a_setting_is_not_folded_into_a_plan(engine, call, is_joining):
    """A function declared IMMUTABLE that reads a setting reads it for each client again."""
    await engine.admin.execute(
        POSTS
        + f"""
        CREATE FUNCTION uid() RETURNS uuid LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN RETURN current_setting('ayb.user_id')::uuid; END $$;
        CREATE FUNCTION wrapped() RETURNS uuid LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN uid(); END $$;
        CREATE POLICY author ON posts USING (author_id = {call});
        """
    )
    images = await engine.insert("posts", post(1, A), post(2, B))
    async with gateway_pool(engine.database) as pool:
        engine.visibility = Visibility(pool, is_joining=is_joining)
        for members in (MEMBERS, {"b": MEMBERS["b"]}, {"a": MEMBERS["a"]}):
            seen = await engine.ask("posts", members, images)
            for member in members:
                assert seen.by(member) == {0 if member == "a" else 1}


HIDDEN_READERS = {
    "an argument": "RETURN claimed(name);",
    "a comment": "RETURN claimed -- of the client\n (name);",
    "a table": "RETURN (SELECT p.id::text FROM people p);",
    "a notation": "RETURN (SELECT c.claimed_by FROM (SELECT 1 AS one) c);",
    "an operator": "RETURN name OPERATOR(public.~~~) name;",
}


@pytest.mark.parametrize("case", HIDDEN_READERS)
async def test_a_setting_that_a_function_reads_through_another_is_not_folded(engine, case):
    """However a function declared IMMUTABLE depends on the client, no plan keeps its value."""
    await engine.admin.execute(
        POSTS
        + f"""
        CREATE TABLE people (id uuid);
        GRANT SELECT ON people TO ayb_authenticated;
        ALTER TABLE people ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON people USING (id::text = current_setting('ayb.user_id'));
        INSERT INTO people VALUES ('{A}'), ('{B}');
        CREATE FUNCTION claimed(name text) RETURNS text LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN current_setting(name); END $$;
        CREATE FUNCTION claimed_by(record) RETURNS text LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN current_setting('ayb.user_id'); END $$;
        CREATE FUNCTION both_claimed(text, text) RETURNS text LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN current_setting($1); END $$;
        CREATE OPERATOR public.~~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = both_claimed);
        CREATE FUNCTION liar(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN {HIDDEN_READERS[case]} END $$;
        CREATE FUNCTION wrapped() RETURNS uuid LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN liar('ayb.user_id')::uuid; END $$;
        CREATE POLICY author ON posts USING (author_id = wrapped());
        """
    )
    images = await engine.insert("posts", post(1, A), post(2, B))
    for is_joining in (True, False):
        engine.visibility = Visibility(engine.pool, is_joining=is_joining)
        seen = await engine.ask("posts", MEMBERS, images)
        assert (seen.by("a"), seen.by("b")) == ({0}, {1}), is_joining


@pytest.mark.parametrize("is_named", [False, True])
async def test_plans_are_discarded_only_where_they_may_hold_a_setting(engine, is_named):
    """Functions that depend on their arguments, and ours, cost no plan; nor does an index."""
    await engine.admin.execute(
        """
        CREATE FUNCTION folder(path text) RETURNS text LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN RETURN format('%s', split_part(lower(path), '/', length('x'))); END $$;
        CREATE FUNCTION folder_again(path text) RETURNS text LANGUAGE sql IMMUTABLE
            RETURN split_part(lower(path), '/', 1);
        CREATE FUNCTION stamped(path text) RETURNS text LANGUAGE sql IMMUTABLE
            AS $$ SELECT current_setting('app.stamp', true) || path $$;
        CREATE TABLE files (path text);
        CREATE INDEX ON files (stamped(path));
        CREATE FUNCTION of_folder() RETURNS text LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN folder('a/b') || folder_again('b/c'); END $$;
        """
    )
    if is_named:
        await engine.admin.execute(
            """CREATE FUNCTION of_today() RETURNS text LANGUAGE plpgsql STABLE
                AS $$ BEGIN RETURN Stamped('YYYY'); END $$"""
        )
    async with engine.pool.acquire() as connection:
        found = await connection.fetchval("SELECT ayb_realtime.keeps_plans_of_settings()")
    assert found is is_named


OWN_ROW = {
    "definer by key": (
        """CREATE FUNCTION can_read(asked bigint) RETURNS boolean LANGUAGE plpgsql STABLE
            SECURITY DEFINER AS $$ BEGIN RETURN EXISTS (SELECT FROM posts p
            WHERE p.id = asked AND p.published); END $$""",
        "can_read(id)",
    ),
    "definer by key, body unknown": (
        """CREATE FUNCTION can_read(asked bigint) RETURNS boolean LANGUAGE plpgsql STABLE
            SECURITY DEFINER AS $$ DECLARE answer boolean; BEGIN
            EXECUTE 'SELECT published FROM po' || 'sts WHERE id = $1' INTO answer USING asked;
            RETURN answer; END $$""",
        "can_read(id)",
    ),
    "subquery": (
        "ALTER TABLE posts OWNER TO ayb_relay",
        "EXISTS (SELECT FROM public_posts p WHERE p.id = posts.id)",
    ),
    "set of keys": (
        """CREATE FUNCTION public_ids() RETURNS SETOF bigint LANGUAGE sql STABLE
            SECURITY DEFINER AS $$ SELECT id FROM public.posts WHERE published $$""",
        "id IN (SELECT public_ids())",
    ),
    "policy of another table": (
        """CREATE TABLE marks (post bigint); INSERT INTO marks VALUES (1);
        GRANT SELECT ON marks TO ayb_authenticated;
        ALTER TABLE marks ENABLE ROW LEVEL SECURITY;
        CREATE FUNCTION is_public(asked bigint) RETURNS boolean LANGUAGE plpgsql STABLE
            SECURITY DEFINER AS $$ BEGIN RETURN EXISTS (SELECT FROM posts p
            WHERE p.id = asked AND p.published); END $$;
        CREATE POLICY m ON marks USING (is_public(post))""",
        "EXISTS (SELECT FROM marks m WHERE m.post = posts.id)",
    ),
}


@BOTH_FORMS
@pytest.mark.parametrize("case", OWN_ROW)
async def test_a_text_of_then_is_not_shown_by_a_rule_of_now(engine, case, is_joining):
    """A text written in private, blanked and published is not replayed to a returning client."""
    objects, policy = OWN_ROW[case]
    await engine.admin.execute(
        f"{POSTS}; CREATE VIEW public_posts AS SELECT id FROM posts WHERE published;"
        f"GRANT SELECT ON public_posts TO ayb_authenticated; {objects};"
        f"CREATE POLICY p ON posts USING ({policy})"
    )
    secret = [Image(post_image(1, A, "secret", published=False))]
    await engine.insert("posts", post(1, A, title="secret"))
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    assert (await engine.ask("posts", MEMBERS, secret)).by("a") == set()
    await engine.admin.execute("UPDATE posts SET title = '', published = true")
    public = [*secret, Image(post_image(1, A, "", published=True))]
    seen = await engine.ask("posts", MEMBERS, public)
    assert seen.by("a") == seen.by("b") == {1}
    assert seen.answer.superseded == {0: {0, 1}} or not seen.answer.superseded
    await engine.admin.execute("DELETE FROM posts")
    assert (await engine.ask("posts", MEMBERS, public)).by("a") == set()


@BOTH_FORMS
async def test_a_domain_that_a_text_is_tried_with_may_look_the_row_up(engine, database, is_joining):
    """`pg_input_is_valid` runs a domain's check, of which nothing is recorded; and the counters of
    scans, which would tell of it, may be off.
    """
    if int(await engine.admin.fetchval("SHOW server_version_num")) < 160000:
        pytest.skip("Postgres has pg_input_is_valid from 16 on")
    await engine.admin.execute(
        f"""{POSTS};
        CREATE FUNCTION is_public(asked text) RETURNS boolean LANGUAGE plpgsql STABLE
            SECURITY DEFINER AS $$ BEGIN RETURN EXISTS (SELECT FROM public.posts p
            WHERE p.id = asked::bigint AND p.published); END $$;
        CREATE DOMAIN public_id AS text CHECK (is_public(VALUE));
        CREATE POLICY p ON posts USING (pg_input_is_valid(id::text, 'public.public_id'));
        """
    )
    name = await engine.admin.fetchval("SELECT current_database()")
    await engine.admin.execute(f"ALTER DATABASE {name} SET track_counts = off")
    await engine.insert("posts", post(1, A, title="title", published=True))
    images = [
        Image(post_image(1, A, "secret", published=False)),
        Image(post_image(1, A, "title", published=True)),
    ]
    async with gateway_pool(database) as pool:
        engine.visibility = Visibility(pool, is_joining=is_joining)
        seen = await engine.ask("posts", MEMBERS, images)
    assert seen.by("a") == seen.by("b") == {1}


def post_image(number: int, author: str, title: str, *, published: bool) -> bytes:
    return (
        f'{{"id":{number},"author_id":"{author}","title":"{title}",'
        f'"published":{"true" if published else "false"}}}'
    ).encode()


@pytest.mark.parametrize("key", ["n", "n, day"])
async def test_a_row_is_found_by_each_spelling_of_its_key(engine, key):
    """Images whose keys are equal though spelled differently are each compared with the row."""
    await engine.admin.execute(
        f"""
        CREATE TABLE prices (n numeric, day date, owner uuid, PRIMARY KEY ({key}));
        INSERT INTO prices VALUES (1.0, '2026-01-02', '{A}');
        GRANT SELECT ON prices TO ayb_authenticated;
        ALTER TABLE prices ENABLE ROW LEVEL SECURITY;
        CREATE FUNCTION owns(uuid) RETURNS boolean LANGUAGE plpgsql STABLE
            AS $$ BEGIN EXECUTE 'SELECT 1';
                RETURN $1::text = current_setting('ayb.user_id'); END $$;
        CREATE POLICY p ON prices USING (owns(owner));
        """
    )
    images = [
        Image(f'{{"n":{n},"day":"2026-01-02","owner":"{A}"}}'.encode())
        for n in ("1", "1.0", "1.00", "2")
    ]
    seen = await engine.ask("prices", MEMBERS, images)
    assert seen.by("a") == {1}
    assert seen.answer.superseded == {0: frozenset({0}), 2: frozenset({0})}
    assert seen.by("b") == set()


async def test_a_table_without_a_key_is_withheld(engine):
    """Where only a SELECT could tell and there is no key to select by, nothing is shown."""
    await engine.admin.execute(
        """
        CREATE TABLE notes (id int); INSERT INTO notes VALUES (1);
        GRANT SELECT ON notes TO ayb_authenticated;
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
        CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql STABLE
            AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN true; END $$;
        CREATE POLICY p ON notes USING (fine(id));
        """
    )
    seen = await engine.ask("notes", MEMBERS, [{"id": 1}])
    assert seen.by("a") == set()
    assert seen.broken() == {"a", "b"}
    assert "primary key" in seen.answer.broken[0]
    assert not seen.answer.undecidable


@pytest.mark.parametrize("is_volatile", [False, True])
async def test_a_function_declared_to_be_trusted_is_judged_on_images(engine, is_volatile):
    """A function that the operator vouches for is joined, or given images where it cannot be; if it
    reads the table after all, the question is thrown away.
    """
    await engine.admin.execute(
        POSTS
        + """
        CREATE FUNCTION fine(asked text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN asked = 't'; END $$;
        CREATE POLICY p ON posts USING (fine(title));
        """
    )
    if is_volatile:
        await engine.admin.execute("ALTER FUNCTION fine VOLATILE")
    images = [post(1, A), post(2, B, title="x")]
    assert (await engine.ask("posts", MEMBERS, images)).by("a") == set()
    engine.visibility = Visibility(engine.pool, trusted_functions=frozenset({"public.fine"}))
    assert (await engine.ask("posts", MEMBERS, images)).by("a") == {0}
    assert await form_of(engine, "posts") == ("looped" if is_volatile else "joined")
    await engine.admin.execute(
        """
        CREATE OR REPLACE FUNCTION fine(asked text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
            SECURITY DEFINER AS $$ DECLARE answer boolean; BEGIN
            EXECUTE 'SELECT count(*) = 0 FROM public.po' || 'sts' INTO answer;
            RETURN answer; END $$
        """
    )
    assert (await engine.ask("posts", MEMBERS, images)).by("a") == set()
    assert await form_of(engine, "posts") == "opaque"


CAPTURED = {
    "function": (
        "array_position(tags, 'public') IS NOT NULL",
        """CREATE FUNCTION public.array_position(text[], text) RETURNS int LANGUAGE plpgsql
            AS $$ BEGIN {trick} RETURN 1; END $$""",
    ),
    "operator": (
        "state = 'out'",
        """CREATE FUNCTION public.same(state, state) RETURNS boolean LANGUAGE plpgsql
            AS $$ BEGIN {trick} RETURN true; END $$;
        CREATE OPERATOR public.= (LEFTARG = state, RIGHTARG = state, FUNCTION = public.same)""",
    ),
    "operator by its bare name": (
        "NOT (state IS DISTINCT FROM 'out')",
        """CREATE FUNCTION public.same(state, state) RETURNS boolean LANGUAGE plpgsql
            AS $$ BEGIN {trick} RETURN true; END $$;
        CREATE OPERATOR public.= (LEFTARG = state, RIGHTARG = state, FUNCTION = public.same)""",
    ),
    "contains": (
        "tags @> '{public}'",
        """CREATE FUNCTION public.holds(text[], text[]) RETURNS boolean LANGUAGE plpgsql
            AS $$ BEGIN {trick} RETURN true; END $$;
        CREATE OPERATOR public.@> (LEFTARG = text[], RIGHTARG = text[], FUNCTION = public.holds)""",
    ),
    "cast": (
        "state::text = 'out'",
        """CREATE FUNCTION public.told(state) RETURNS text LANGUAGE plpgsql
            AS $$ BEGIN {trick} RETURN 'out'; END $$;
        CREATE CAST (state AS text) WITH FUNCTION public.told(state)""",
    ),
}
TRICK = "PERFORM set_config('role', 'none', true), count(*) FROM ayb_realtime.changes;"


@BOTH_FORMS
@pytest.mark.parametrize("case", CAPTURED)
@pytest.mark.parametrize("helper", ["yes()", "true"])
async def test_an_object_made_later_captures_no_name(engine, case, helper, is_joining):
    """What a policy calls is what it called when it was made, whatever is created since."""
    policy, objects = CAPTURED[case]
    await engine.admin.execute(
        f"""
        CREATE TYPE state AS ENUM ('in', 'out');
        CREATE TABLE docs (id int PRIMARY KEY, tags text[], state state);
        CREATE FUNCTION yes() RETURNS boolean LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN true; END $$;
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING ({helper} AND {policy} AND current_setting('ayb.user_id') <> '');
        INSERT INTO docs VALUES (1, '{{public}}', 'out'), (2, '{{}}', 'in');
        """  # noqa: E501
    )
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    images = await engine.images("docs")
    assert (await engine.ask("docs", MEMBERS, images)).by("a") == {0}
    await engine.admin.execute(objects.format(trick=TRICK))
    assert (await engine.ask("docs", MEMBERS, images)).by("a") == {0}
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask("docs", MEMBERS, images)
    assert seen.by("a") == {0}
    assert not seen.answer.broken


ODD_SETTINGS = {
    "extra_float_digits": "0",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kolkata",
    "array_nulls": "off",
    "row_security": "off",
    "bytea_output": "escape",
    "lc_monetary": "C",
    "xmloption": "document",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "search_path": "odd, public",
    "default_transaction_isolation": "repeatable read",
    "plan_cache_mode": "force_generic_plan",
}
ODD_POLICIES = {
    "score <= 0.3": {1},
    "EXTRACT(hour FROM stamp) = 12": {0},
    "day = '2026-02-01'": {0},
    "span < '0'": {0},
    "tags[1] IS NULL": {0},
    "raw = '\\x00ff'": {0},
    "stamp = '2026-02-01 06:30:00+00'": {0},
    "score::text = '0.3'": {0, 1},
    "score <= exact()": {0, 1},
    "score IN (SELECT exact())": {0},
    "begins_null(tags)": {0},
    "lower(tags[1]) IS NULL": {0},
    "EXISTS (SELECT FROM read_by r WHERE r.reader = score)": {0},
}


@BOTH_FORMS
@pytest.mark.parametrize("helper", ["yes()", "fine(id)", "true"])
async def test_settings_of_the_database_bend_no_decision(engine, database, helper, is_joining):
    """Policies run under the settings of the database; what images say does not depend on them."""
    name = await engine.admin.fetchval("SELECT current_database()")
    await engine.admin.execute("CREATE SCHEMA odd")
    await engine.admin.execute(
        """
        CREATE TABLE docs (id int PRIMARY KEY, score float8, stamp timestamptz, day date,
            span interval, tags text[], raw bytea);
        CREATE FUNCTION yes() RETURNS boolean LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN true; END $$;
        CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql STABLE
            AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN true; END $$;
        CREATE FUNCTION exact() RETURNS float8 LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN 0.30000000000000004; END $$;
        CREATE FUNCTION begins_null(names text[]) RETURNS boolean LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN names[1] IS NULL; END $$;
        CREATE TABLE read_by (reader float8);
        INSERT INTO read_by VALUES (0.30000000000000004);
        GRANT SELECT ON docs, read_by TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        ALTER TABLE read_by ENABLE ROW LEVEL SECURITY;
        CREATE POLICY all_of ON read_by USING (true);
        SET TimeZone = 'UTC';
        INSERT INTO docs VALUES
            (1, 0.30000000000000004, '2026-02-01 12:00:00+05:30', '2026-02-01', '-1 day -2 hours',
             ARRAY[NULL]::text[], '\\x00ff'),
            (2, 0.3, '2026-02-01 12:00:00+00', '2026-01-02', '1 mon -1 day',
             ARRAY['NULL'], '\\x');
        """
    )
    images = await engine.images("docs")
    for setting, value in ODD_SETTINGS.items():
        quoted = value if setting == "search_path" else f"'{value}'"
        await engine.admin.execute(f"ALTER DATABASE {name} SET {setting} = {quoted}")
    for policy, expected in ODD_POLICIES.items():
        await engine.admin.execute(
            "DROP POLICY IF EXISTS p ON docs; "
            f"CREATE POLICY p ON docs USING ({helper} AND {policy} "
            "AND current_setting('ayb.user_id') <> '')"
        )
        async with gateway_pool(database) as pool, database.connect() as client:
            await client.execute("SET row_security = on; SET ROLE ayb_authenticated")
            await client.execute("SELECT set_config('ayb.user_id', 'x', false)")
            truth = {r[0] - 1 for r in await client.fetch("SELECT id FROM docs")}
            assert truth == expected, (policy, truth)
            engine.visibility = Visibility(
                pool, observer=engine.recorder, verify_rate=1.0, is_joining=is_joining
            )
            seen = await engine.ask("docs", MEMBERS, images)
            assert seen.by("a") == truth, (policy, await form_of(engine, "docs"))
            assert not seen.answer.broken
    assert engine.recorder.differences == 0
    assert engine.recorder.unchecked_because == []


async def test_one_image_with_a_null_character_is_its_own_loss(engine):
    """Text that a type cannot take makes one image undecidable, or one pair fail, and no other."""
    await engine.admin.execute(
        """
        CREATE TABLE docs (id int PRIMARY KEY, doc json, owner text);
        CREATE FUNCTION me() RETURNS text LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN current_setting('ayb.user_id'); END $$;
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING (owner = me());
        """
    )
    images = [
        Image(b'{"id":1,"doc":{"x":"\\u0000"},"owner":"%b"}' % A.encode()),
        Image(b'{"id":2,"doc":null,"owner":"%b"}' % A.encode()),
        Image(b'{"id":3,"doc":null,"owner":"\\u0000"}'),
    ]
    for is_joining in (True, False):
        engine.visibility = Visibility(engine.pool, is_joining=is_joining)
        seen = await engine.ask("docs", MEMBERS, images)
        assert seen.by("a") == {0, 1}
        assert seen.answer.columns == {"id", "doc", "owner"}
        assert seen.answer.undecidable == {2}
        assert not seen.answer.broken


@pytest.mark.parametrize("helper", ["me()", "current_setting('ayb.user_id')"])
async def test_a_claim_that_is_no_text_is_its_own_cohorts_loss(engine, helper):
    """A claim that the database cannot hold fails for its client, and for nobody else."""
    await engine.admin.execute(
        POSTS
        + f"""
        CREATE FUNCTION me() RETURNS text LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN current_setting('ayb.user_id'); END $$;
        CREATE POLICY p ON posts USING (author_id::text = {helper});
        """
    )
    engine.visibility = Visibility(engine.pool, is_joining=helper == "me()")
    members = {**MEMBERS, "bad": settings(user="\ud83d"), "nul": settings(user="\x00")}
    seen = await engine.ask("posts", members, [post(1, A), post(2, B)])
    assert seen.by("a") == {0}
    assert seen.by("b") == {1}
    assert seen.broken() == {"bad", "nul"}
    assert seen.answer.columns


async def test_preparing_for_longer_than_the_budget_is_no_standstill(engine):
    """At least one cohort is asked at a time, however long it takes to begin."""
    await engine.admin.execute(POSTS + AUTHOR)
    engine.visibility = Visibility(engine.pool, is_joining=False, loop_seconds=0)
    seen = await engine.ask("posts", MEMBERS, [post(1, A), post(2, B)])
    assert seen.by("a") == {0}
    assert seen.by("b") == {1}


@pytest.mark.parametrize("raised", ["ASSERT false", "RAISE SQLSTATE '57014'"])
async def test_errors_that_others_does_not_catch_are_one_cohorts(engine, raised):
    """An assertion or a cancellation that a function raises fails for its own client."""
    await engine.admin.execute(
        POSTS
        + f"""
        CREATE FUNCTION moody() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
            IF current_setting('ayb.user_id') = 'x' THEN {raised}; END IF;
            RETURN true;
        END $$;
        CREATE POLICY p ON posts USING (moody());
        """
    )
    members = {"a": settings(user=A), "x": settings(user="x")}
    for _ in range(4):
        try:
            seen = await engine.ask("posts", members, [post(1, A)])
        except DatabaseUnavailableError:
            continue
        break
    assert seen.by("a") == {0}
    assert seen.broken() == {"x"}


async def test_a_user_buys_no_time_by_more_tokens(engine, database):
    """Tokens of a user whose policies take too long are set aside together."""
    await engine.admin.execute(
        POSTS
        + """
        CREATE FUNCTION nap() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
            IF current_setting('ayb.user_id') = 'sleepy' THEN PERFORM pg_sleep(60); END IF;
            RETURN true;
        END $$;
        CREATE POLICY p ON posts USING (nap());
        """
    )
    members: dict[object, tuple[str, ...]] = {
        n: settings(user="sleepy", claims=f'{{"jti": {n}}}') for n in range(8)
    }
    members["a"] = settings(user=A)
    async with gateway_pool(database, statement_timeout="400") as pool:
        engine.visibility = Visibility(pool, loop_seconds=0.1, observer=engine.recorder)
        seen = await engine.ask("posts", members, [post(1, A)])
        assert seen.by("a") == {0}
        assert seen.broken() == set(range(8))
        looped = [state for form, state in engine.recorder.failures if form == "looped"]
        assert looped == ["57014"]


async def test_a_table_dropped_under_its_question_is_gone(engine):
    """Gone is gone, for that table alone: no policy is said to raise, and nothing is held."""
    await engine.admin.execute(POSTS + AUTHOR)
    relid = await engine.relid("posts")
    for is_joining in (True, False):
        engine.visibility = Visibility(engine.pool, is_joining=is_joining, observer=engine.recorder)
        await engine.ask(relid, MEMBERS, [post(1, A)])
    await engine.admin.execute("DROP TABLE posts")
    seen = await engine.ask(relid, MEMBERS, [post(1, A)])
    assert seen.answer.is_gone
    assert engine.recorder.failures == []


TOLD_OTHERWISE = {
    "line breaks of json": (
        "",
        "doc json",
        "E'{\"a\":\\n1}'",
        "doc::text = E'{\"a\":\\n1}'",
        {0},
    ),
    "a composite's attributes that swap names": (
        "CREATE TYPE pair AS (x int, y int)",
        "doc pair",
        "'(1,2)'",
        "(doc).x = 1",
        {0},
    ),
    "a table that a regclass names": (
        "",
        "doc regclass",
        "'posts'",
        "doc = 'posts'::regclass",
        {0},
    ),
    "an enum with a cast to json": (
        """CREATE TYPE mood AS ENUM ('low', 'high');
        CREATE FUNCTION as_json(mood) RETURNS json LANGUAGE sql IMMUTABLE
            AS $$ SELECT '"high"'::json $$;
        CREATE CAST (mood AS json) WITH FUNCTION as_json(mood)""",
        "doc mood",
        "'low'",
        "doc = 'high'",
        set(),
    ),
}  # fmt: skip


@BOTH_FORMS
@pytest.mark.parametrize("case", TOLD_OTHERWISE)
async def test_what_an_image_does_not_tell_is_not_read_from_it(engine, case, is_joining):
    """Values that JSON has otherwise, or by names that have changed, are those of the row."""
    objects, column, value, policy, expected = TOLD_OTHERWISE[case]
    await engine.admin.execute(
        f"""
        CREATE TABLE posts (id int); {objects};
        CREATE TABLE docs (id int PRIMARY KEY, {column});
        INSERT INTO docs VALUES (1, {value});
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING ({policy} AND current_setting('ayb.user_id') <> '');
        """
    )
    [image] = await engine.images("docs")
    # As capture and relay write it.
    image = Image(image.json.replace(b"\n", b" ").replace(b'"posts"', b'"public.posts"'))
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask("docs", MEMBERS, [image])
    assert seen.by("a") == expected
    assert not seen.answer.undecidable
    if "swap" in case:
        await engine.admin.execute(
            "ALTER TYPE pair RENAME ATTRIBUTE x TO z; ALTER TYPE pair RENAME ATTRIBUTE y TO x;"
            "ALTER TYPE pair RENAME ATTRIBUTE z TO y"
        )
        # The policy goes on reading the first attribute, by whatever name.
        seen = await engine.ask("docs", MEMBERS, [image])
        assert seen.by("a") == set()  # its names are others now, so the image is not the row's
        [image] = await engine.images("docs")
        assert (await engine.ask("docs", MEMBERS, [image])).by("a") == {0}


@BOTH_FORMS
async def test_a_type_that_cannot_be_read_back_matters_only_where_policies_read_it(
    engine, is_joining
):
    """A column whose JSON does not become its type again keeps no row from being judged."""
    await engine.admin.execute(
        POSTS
        + AUTHOR
        + """;
        CREATE TYPE odd AS ENUM ('x');
        CREATE FUNCTION as_json(odd) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT '{}'::json $$;
        CREATE CAST (odd AS json) WITH FUNCTION as_json(odd);
        ALTER TABLE posts ADD odd odd DEFAULT 'x';
        """
    )
    await engine.admin.execute(f"INSERT INTO posts VALUES (1, '{A}', 't', false)")
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask("posts", MEMBERS, await engine.images("posts"))
    assert seen.by("a") == {0}
    assert not seen.answer.undecidable


@pytest.mark.parametrize("with_old", [False, True])
async def test_a_row_written_otherwise_is_not_withheld_for_good(engine, with_old):
    """Where a row differs from its last image and no later change comes, the image is undecidable,
    also if the image before the change is asked about as well (for clients with `leave`).
    """
    await engine.admin.execute(
        """
        CREATE TABLE docs (id int PRIMARY KEY, body text);
        CREATE FUNCTION may_read(doc int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
            SELECT EXISTS (SELECT FROM public.docs d WHERE d.id = doc) $$;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING (may_read(id));
        GRANT SELECT ON docs TO ayb_authenticated;
        INSERT INTO docs VALUES (1, 'written without capture');
        """
    )
    images = [Image(b'{"id":1,"body":"new"}', 5)]
    if with_old:
        images.append(Image(b'{"id":1,"body":"old"}', 5, is_past=True))
    seen = await engine.ask("docs", {"me": settings(user=A)}, images)
    assert await form_of(engine, "docs") == "opaque"
    assert 0 in seen.answer.undecidable


async def test_one_client_whose_functions_find_no_names(engine):
    """A client that is asked by itself, since a claim does not cast, sees what its SELECT shows:
    also where a function of the policy reads a table by its bare name.
    """
    await engine.admin.execute(
        """
        CREATE TABLE people (id uuid, org int);
        CREATE TABLE docs (id int PRIMARY KEY, org int, score int);
        GRANT SELECT ON docs, people TO ayb_authenticated;
        CREATE FUNCTION is_known(uid uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
            SELECT EXISTS (SELECT FROM people WHERE id = uid) $$;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING (CASE WHEN is_known(current_setting('ayb.user_id')::uuid)
            THEN org = 1 ELSE score > current_setting('ayb.tenant_id')::int END);
        INSERT INTO docs VALUES (1, 1, 0), (2, 2, 9);
        """
    )
    await engine.admin.execute(f"INSERT INTO people VALUES ('{A}', 1)")
    members = {
        "cast": settings(user=B, tenant="5"),
        "not cast": settings(user=A, tenant="none"),
        "neither": settings(user=B, tenant="none"),
    }
    seen = await engine.ask("docs", members, await engine.images("docs"))
    assert await form_of(engine, "docs") == "joined"
    assert seen.by("cast") == {1}
    assert seen.by("not cast") == {0}
    assert seen.by("neither") == set()
    assert seen.broken() == {"neither"}
    assert not seen.answer.undecidable


async def test_a_row_written_otherwise_where_functions_find_no_names(engine):
    """Cohorts that are asked by SELECT get `resync`, too, for a row that differs from its image."""
    await engine.admin.execute(
        """
        CREATE TABLE people (id uuid, org int);
        CREATE TABLE docs (id int PRIMARY KEY, org int, score int, body text);
        GRANT SELECT ON docs, people TO ayb_authenticated;
        CREATE FUNCTION is_known(uid uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
            SELECT EXISTS (SELECT FROM people WHERE id = uid) $$;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING (CASE WHEN is_known(current_setting('ayb.user_id')::uuid)
            THEN org = 1 ELSE score > current_setting('ayb.tenant_id')::int END);
        INSERT INTO docs VALUES (1, 1, 0, 'written without capture');
        """
    )
    await engine.admin.execute(f"INSERT INTO people VALUES ('{A}', 1)")
    members = {"cast": settings(user=B, tenant="5"), "not cast": settings(user=A, tenant="none")}
    image = Image(b'{"id":1,"org":1,"score":0,"body":"new"}', 5)
    seen = await engine.ask("docs", members, [image])
    assert 0 in seen.answer.undecidable or 0 in seen.by("not cast")
