"""Rules that change, columns out of reach, images that cannot be judged, and bad policies."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import pytest

from gateway.visibility import looped
from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import EVERYBODY, Visibility
from gateway.visibility.queries import Subject, VisibilityQueries
from gateway.visibility.question_errors import (
    RulesChangedError,
)
from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from shared.errors import DatabaseUnavailableError
from tests.integration.visibility.conftest import ROLE, gateway_pool, settings
from tests.integration.visibility.test_cases import AUTHOR, POSTS, A, B, post

MEMBERS = {"a": settings(user=A), "b": settings(user=B)}


@pytest.mark.parametrize(
    ("change", "seen_by_b"),
    [
        ("DROP POLICY author ON posts", set()),
        ("ALTER POLICY author ON posts USING (title = 't')", {0, 1}),
        ("ALTER POLICY author ON posts TO ayb_relay", set()),
        ("CREATE POLICY all_ ON posts USING (true)", {0, 1}),
        ("CREATE POLICY none ON posts AS RESTRICTIVE USING (false)", set()),
        ("ALTER TABLE posts DISABLE ROW LEVEL SECURITY", {0, 1}),
        ("ALTER TABLE posts OWNER TO ayb_authenticated", {0, 1}),
        ("ALTER TABLE posts RENAME COLUMN title TO headline", {1}),
        ("ALTER TABLE posts RENAME TO articles", {1}),
        ("ALTER TABLE posts SET SCHEMA elsewhere", {1}),
        ("ALTER TABLE posts ALTER COLUMN id TYPE text", {1}),
        ("ALTER TABLE posts DROP COLUMN title", {1}),
        ("ALTER TABLE posts ADD COLUMN more int", {1}),
    ],
)
async def test_change_is_in_force_at_once(engine, change, seen_by_b):
    """A change of policies, flags, owner, names or columns decides the next question."""
    await engine.admin.execute(
        POSTS + AUTHOR + "; CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO PUBLIC"
    )
    relid = await engine.relid("posts")
    images = [post(1, A), post(2, B)]
    assert (await engine.ask(relid, MEMBERS, images)).by("b") == {1}
    await engine.admin.execute(change)
    assert (await engine.ask(relid, MEMBERS, images)).by("b") == seen_by_b


async def test_function_replaced(engine):
    """A function that a policy calls decides in its present form, joined or not."""
    await engine.admin.execute(
        """
        CREATE FUNCTION me() RETURNS uuid LANGUAGE sql STABLE
            AS $$ SELECT current_setting('ayb.user_id')::uuid $$;
        """
        + POSTS
        + "CREATE POLICY author ON posts USING (author_id = me())"
    )
    assert (await engine.ask("posts", MEMBERS, [post(1, A)])).by("a") == {0}
    await engine.admin.execute(
        "CREATE OR REPLACE FUNCTION me() RETURNS uuid LANGUAGE sql STABLE "
        "AS $$ SELECT NULL::uuid $$"
    )
    assert (await engine.ask("posts", MEMBERS, [post(1, A)])).by("a") == set()
    await engine.admin.execute("REVOKE EXECUTE ON FUNCTION me() FROM PUBLIC")
    seen = await engine.ask("posts", MEMBERS, [post(1, A)])
    assert seen.broken() == {"a", "b"}
    assert {form for _, form, _ in engine.recorder.plans} == {"joined", "opaque"}


async def test_wrapper_that_may_not_be_called_is_not_inlined(engine):
    """A wrapper that the role may not execute makes a SELECT fail, so nobody sees anything."""
    await engine.admin.execute(
        """
        CREATE FUNCTION me() RETURNS uuid LANGUAGE sql STABLE
            AS $$ SELECT current_setting('ayb.user_id')::uuid $$;
        REVOKE EXECUTE ON FUNCTION me() FROM PUBLIC;
        """
        + POSTS
        + "CREATE POLICY author ON posts USING (author_id = me())"
    )
    seen = await engine.ask("posts", MEMBERS, [post(1, A)])
    assert seen.by("a") == set()
    assert seen.broken() == {"a", "b"}


async def test_columns(engine):
    """Only columns that the role may read now are named; without any, nothing may be sent."""
    await engine.admin.execute(
        POSTS + AUTHOR + "; REVOKE SELECT ON posts FROM ayb_authenticated;"
        "GRANT SELECT (id, title) ON posts TO ayb_authenticated"
    )
    relid = await engine.relid("posts")
    seen = await engine.ask("posts", MEMBERS, [post(1, A)])
    assert seen.answer.columns == {"id", "title"}
    assert seen.by("a") == {0}
    assert await engine.visibility.readable_columns(relid, ROLE) == {"id", "title"}
    await engine.admin.execute("REVOKE SELECT (title) ON posts FROM ayb_authenticated")
    assert (await engine.ask("posts", MEMBERS, [])).answer.columns == {"id"}
    await engine.admin.execute("REVOKE SELECT (id) ON posts FROM ayb_authenticated")
    assert (await engine.ask("posts", MEMBERS, [post(1, A)])).answer.columns == frozenset()
    assert await engine.visibility.readable_columns(relid, ROLE) == frozenset()


async def test_schema_out_of_reach(engine):
    """A role without USAGE on the schema reads nothing, whatever it was granted on the table."""
    await engine.admin.execute(
        "CREATE SCHEMA hidden; CREATE TABLE hidden.posts (id int);"
        "GRANT SELECT ON hidden.posts TO ayb_authenticated"
    )
    assert (await engine.ask("hidden.posts", MEMBERS, [{"id": 1}])).answer.columns == frozenset()


async def test_types_are_those_of_the_rules(engine):
    """The types of expressions belong to the rules that they were taken from: of several read
    servers, one may lag.
    """
    await engine.admin.execute(POSTS + AUTHOR)
    queries = VisibilityQueries(engine.pool)
    relid = await engine.relid("posts")
    known = await queries.rules(relid, ROLE)
    subject = Subject(relid, ROLE, 0, known.fingerprint)
    assert await queries.expression_types(subject, ["1"], [False], []) == (["pg_catalog.int4"], [])
    await engine.admin.execute("ALTER POLICY author ON posts USING (true)")
    with pytest.raises(RulesChangedError):
        await queries.expression_types(subject, ["1"], [False], [])


@pytest.mark.parametrize("is_joining", [True, False])
async def test_a_column_with_another_name(engine, is_joining):
    """Images with a column's new name are judged at once, though they do not fit the old rules."""
    await engine.admin.execute(POSTS + AUTHOR)
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    members = {"a": settings(user=A), "b": settings(user=B)}
    assert (await engine.ask("posts", members, [post(1, A)])).by("a") == {0}
    await engine.admin.execute("ALTER TABLE posts RENAME author_id TO writer_id")
    image = post(2, B)
    image["writer_id"] = image.pop("author_id")
    seen = await engine.ask("posts", members, [image])
    assert (seen.by("a"), seen.by("b")) == (set(), {0})


async def test_table_or_role_gone(engine):
    """About a table that was dropped, or for a role that was, nothing is seen and it is said."""
    await engine.admin.execute(POSTS + AUTHOR)
    relid = await engine.relid("posts")
    assert (await engine.ask(relid, MEMBERS, [post(1, A)])).by("a") == {0}
    await engine.admin.execute("DROP TABLE posts")
    for role in (ROLE, "no such role"):
        seen = await engine.ask(relid, MEMBERS, [post(1, A)], role=role)
        assert seen.answer.is_gone
        assert seen.answer.undecidable == {0}
        assert seen.answer.columns == frozenset()


@pytest.mark.parametrize("is_joining", [True, False])
@pytest.mark.parametrize(
    ("policy", "image"),
    [
        ("author_id IS NULL", {"id": 1}),
        ("author_id IS NULL", {"id": 1, "author_id": "not a uuid"}),
        ("doc IS NULL", {"id": 1, "author_id": None, "doc": None}),
        ("posts IS NULL", {"id": 1, "author_id": None}),
    ],
)
async def test_undecidable(engine, policy, image, is_joining):
    """An image without a column that policies read, or where it is in doubt, is nobody's."""
    await engine.admin.execute(
        f"""
        CREATE TABLE posts (id bigint, author_id uuid, doc jsonb);
        GRANT SELECT ON posts TO ayb_authenticated;
        ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON posts USING ({policy} AND current_setting('ayb.user_id') <> 'x');
        """
    )
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    fine = {"id": 2, "author_id": None, "doc": {}}
    seen = await engine.ask("posts", MEMBERS, [image, fine])
    assert seen.answer.undecidable == {0}
    assert 0 not in seen.by("a")
    assert 1 in seen.by("a") or policy != "author_id IS NULL"


@pytest.mark.parametrize("is_joining", [True, False])
@pytest.mark.parametrize("type_", ["oidvector", "int2vector"])
async def test_vector_has_other_subscripts_in_an_image(engine, type_, is_joining):
    """A vector, whose subscripts begin at 0, is not judged on an array read back from JSON."""
    await engine.admin.execute(
        f"""
        CREATE TABLE posts (id int, listed {type_}); INSERT INTO posts VALUES (1, '7 8');
        GRANT SELECT ON posts TO ayb_authenticated;
        ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON posts USING (listed[1] = 7);
        """
    )
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask("posts", MEMBERS, await engine.images("posts"))
    assert seen.by("a") == set()
    assert seen.answer.undecidable == {0}


@pytest.mark.parametrize("is_joining", [True, False])
async def test_json_null_is_no_doubt_where_policies_look_inside(engine, is_joining):
    """A json column that is null is judged if policies do no more than look into it."""
    await engine.admin.execute(
        """
        CREATE TABLE posts (id bigint, doc jsonb);
        GRANT SELECT ON posts TO ayb_authenticated;
        ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON posts USING (doc ->> 'for' IS NULL OR doc ->> 'for' = current_setting('ayb.user_id'));
        """  # noqa: E501
    )
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask(
        "posts", MEMBERS, [{"id": 1, "doc": None}, {"id": 2, "doc": {"for": A}}]
    )
    assert seen.by("a") == {0, 1}
    assert seen.by("b") == {0}
    assert not seen.answer.undecidable


@pytest.mark.parametrize("is_joining", [True, False])
@pytest.mark.parametrize(
    "policy",
    [
        "(doc -> 0) IS NULL",
        "(doc -> -1) IS NULL",
        "(doc #> '{}') IS NULL",
        "(doc #> ARRAY[]::text[]) IS NULL",
        "nested IS NULL",
        "(both_).doc IS NULL",
        "(listed[1]).doc IS NULL",
    ],
)
async def test_json_null_that_tells(engine, policy, is_joining):
    """Where json null and no value are told apart, at any depth, an image with one is nobody's."""
    await engine.admin.execute(
        f"""
        CREATE DOMAIN inner_ AS jsonb; CREATE DOMAIN outer_ AS inner_;
        CREATE TYPE pair AS (nr int, doc inner_);
        CREATE TABLE posts (id int, doc jsonb, nested outer_, both_ pair, listed pair[]);
        INSERT INTO posts VALUES (1, 'null', 'null', (1, 'null'), ARRAY[(1, 'null')::pair]);
        GRANT SELECT ON posts TO ayb_authenticated;
        ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON posts USING ({policy})
        """
    )
    engine.visibility = Visibility(engine.pool, is_joining=is_joining, observer=engine.recorder)
    assert await engine.admin.fetchval(f"SELECT count(*) FROM posts WHERE {policy}") == 0
    seen = await engine.ask("posts", MEMBERS, await engine.images("posts"))
    assert seen.by("a") == set()
    form = engine.recorder.plans[-1][1] if engine.recorder.plans else None
    if "_" in policy or "[1]" in policy:
        # The names of a composite's attributes may have changed since, so no image is judged.
        assert form == "opaque"
    else:
        assert seen.answer.undecidable == {0}


async def test_nothing_stays_behind(engine, database):
    """On one connection: first A, then B, then nobody; no role, setting or statement is left."""
    await engine.admin.execute(POSTS + AUTHOR)
    async with gateway_pool(database) as pool:
        for visibility in (Visibility(pool), Visibility(pool, is_joining=False)):
            engine.visibility = visibility
            for members in ({"a": settings(user=A)}, {"b": settings(user=B)}, {"n": settings()}):
                [member] = members
                seen = await engine.ask("posts", members, [post(1, A)])
                assert seen.by(member) == ({0} if member == "a" else set())
        async with pool.acquire() as connection:
            left = await connection.fetchrow(
                """SELECT current_user::text AS role, current_setting('ayb.user_id', true) AS id,
                    current_setting('request.jwt.claims', true) AS claims,
                    current_setting('search_path') AS path,
                    (SELECT count(*) FROM pg_prepared_statements
                     WHERE name LIKE 'ayb%') AS prepared"""
            )
        assert left["role"] == "ayb_gateway"
        assert not left["id"]
        assert not left["claims"]
        assert left["path"] == '"$user", public'
        assert left["prepared"] == 0


async def test_functions_see_the_usual_search_path(engine):
    """A function without a search path of its own finds tables as it does for a real client."""
    await engine.admin.execute(
        POSTS
        + """
        CREATE TABLE friends (id uuid); GRANT SELECT ON friends TO ayb_authenticated;
        CREATE FUNCTION befriended(who uuid) RETURNS boolean LANGUAGE plpgsql STABLE
            AS $$ BEGIN RETURN EXISTS (SELECT FROM friends WHERE id = who); END $$;
        CREATE POLICY p ON posts USING (befriended(author_id));
        """
    )
    await engine.admin.execute("INSERT INTO friends VALUES ($1)", A)
    images = await engine.insert("posts", post(1, A), post(2, B))
    assert (await engine.ask("posts", MEMBERS, images)).by("b") == {0}


async def test_operators_out_of_the_search_path(engine):
    """IS DISTINCT FROM uses the operator that the policy was made with, wherever it lies."""
    await engine.admin.execute(
        """
        CREATE SCHEMA shop;
        CREATE FUNCTION shop.same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE
            AS $$ SELECT lower($1) OPERATOR(pg_catalog.=) lower($2) $$;
        CREATE TYPE shop.code AS ENUM ('a');
        CREATE FUNCTION shop.same(shop.code, text) RETURNS boolean LANGUAGE sql IMMUTABLE
            AS $$ SELECT shop.same($1::text, $2) $$;
        CREATE OPERATOR shop.= (LEFTARG = shop.code, RIGHTARG = text, FUNCTION = shop.same);
        CREATE TABLE posts (id int PRIMARY KEY, code shop.code);
        INSERT INTO posts VALUES (1, 'a');
        GRANT SELECT ON posts TO ayb_authenticated;
        GRANT USAGE ON SCHEMA shop TO ayb_authenticated;
        ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
        SET search_path = shop, public;
        CREATE POLICY p ON posts USING (NOT (code IS DISTINCT FROM 'A'::text));
        RESET search_path;
        """
    )
    assert (await engine.ask("posts", MEMBERS, [{"id": 1, "code": "a"}])).by("a") == {0}


SLEEPY = (
    POSTS
    + """
    CREATE FUNCTION nap() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
        IF current_setting('ayb.user_id') = 'sleepy' THEN PERFORM pg_sleep(60); END IF;
        RETURN true;
    END $$;
    CREATE POLICY p ON posts USING (nap());
    """
)


async def test_slow_cohort_is_set_aside(engine, database):
    """Whose policy never ends is denied, told, and then not asked for a while; others see all."""
    await engine.admin.execute(SLEEPY)
    members: dict[object, tuple[str, ...]] = {n: settings(user=str(n)) for n in range(5)}
    members["sleepy"] = settings(user="sleepy")
    members.update({n: settings(user=str(n)) for n in range(5, 10)})
    async with gateway_pool(database, statement_timeout="400") as pool:
        engine.visibility = Visibility(pool, loop_seconds=0.1)
        for _ in range(2):
            seen = await engine.ask("posts", members, [post(1, A), post(2, B)])
            assert all(seen.by(n) == {0, 1} for n in range(10))
            assert seen.by("sleepy") == set()
            assert seen.broken() == {"sleepy"}


async def test_cancelled_from_outside_is_nobodys_fault(engine, database):
    """A statement that an administrator ends is asked again; no cohort is blamed."""
    await engine.admin.execute(SLEEPY)
    async with gateway_pool(database, statement_timeout="0") as pool:
        engine.visibility = Visibility(pool)
        relid = await engine.relid("posts")
        asking = asyncio.ensure_future(
            engine.ask(relid, {"s": settings(user="sleepy")}, [post(1, A)])
        )
        while not await engine.admin.fetchval(  # noqa: ASYNC110 (Postgres has no event for it)
            "SELECT bool_or(pg_cancel_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'ayb-gateway' AND wait_event = 'PgSleep'"
        ):
            await asyncio.sleep(0.01)
        with pytest.raises(DatabaseUnavailableError):
            await asking


async def test_policy_cannot_stop_its_table(engine):
    """A policy that raises errors of the server's own kind is asked again, then is broken."""
    await engine.admin.execute(
        POSTS
        + """
        CREATE FUNCTION moody() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
            IF current_setting('ayb.user_id') = 'x' THEN RAISE SQLSTATE '40001'; END IF;
            RETURN true;
        END $$;
        CREATE POLICY p ON posts USING (moody());
        """
    )
    members = {"a": settings(user=A), "x": settings(user="x")}
    for _ in range(3):
        with pytest.raises(DatabaseUnavailableError):
            await engine.ask("posts", members, [post(1, A)])
    seen = await engine.ask("posts", members, [post(1, A)])
    assert seen.by("a") == {0}
    assert seen.broken() == {"x"}


async def test_policy_that_writes_or_takes_a_role(engine):
    """A policy's function writes nothing, and a role that it takes is not the next cohort's."""
    await engine.admin.execute(
        POSTS
        + """
        CREATE TABLE notes (id int); GRANT ALL ON notes TO ayb_authenticated;
        CREATE FUNCTION sly() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('ayb.user_id') = 'writer' THEN INSERT INTO notes VALUES (1); END IF;
            IF current_setting('ayb.user_id') = 'thief' THEN
                PERFORM set_config('role', 'ayb_gateway', true),
                    set_config('search_path', 'x', true);
            END IF;
            RETURN current_user = 'ayb_authenticated';
        END $$;
        CREATE POLICY p ON posts USING (sly());
        """
    )
    members = {name: settings(user=name) for name in ("writer", "thief", "other")}
    seen = await engine.ask("posts", members, [post(1, A)])
    assert seen.by("other") == {0}
    assert seen.by("writer") == seen.by("thief") == set()
    assert seen.broken() == {"writer"}
    assert await engine.admin.fetchval("SELECT count(*) FROM notes") == 0


async def test_role_that_the_gateway_may_not_take(engine):
    """For a role that the gateway is no member of nothing is seen."""
    await engine.admin.execute(POSTS + AUTHOR + "; GRANT SELECT ON posts TO ayb_relay")
    for is_joining in (True, False):
        engine.visibility = Visibility(engine.pool, is_joining=is_joining)
        seen = await engine.ask("posts", MEMBERS, [post(1, A)], role="ayb_relay")
        assert seen.by("a") == set()


async def test_many_images_are_asked_in_portions(engine):
    """More images than one question holds are asked in several, and numbered through."""
    await engine.admin.execute(POSTS + AUTHOR)
    images = [post(n, A if n % 3 else B) for n in range(2_500)]
    seen = await engine.ask("posts", MEMBERS, images)
    assert seen.by("a") == {n for n in range(2_500) if n % 3}
    assert seen.by("b") == {n for n in range(2_500) if n % 3 == 0}


@pytest.mark.parametrize("is_joining", [True, False])
async def test_many_cohorts_and_images(engine, is_joining, monkeypatch):
    """With many cohorts images are asked about in smaller portions, and numbered through."""
    monkeypatch.setattr(looped, "_MOST_PAIRS", 50)
    await engine.admin.execute(
        POSTS + "CREATE POLICY p ON posts "
        "USING (published OR author_id = current_setting('ayb.user_id')::uuid)"
    )
    users = [str(UUID(int=n)) for n in range(20)]
    members: dict[object, tuple[str, ...]] = {
        n: settings(user=user) for n, user in enumerate(users)
    }
    members["bad"] = settings(user="bad")
    images = [post(n, users[n % 20], published=n % 5 == 0) for n in range(60)]
    images[33] = {"id": 33, "author_id": "no uuid", "title": "", "published": True}
    engine.visibility = Visibility(engine.pool, is_joining=is_joining)
    seen = await engine.ask("posts", members, images)
    fine = set(range(60)) - {33}
    assert all(seen.by(n) == {m for m in fine if m % 5 == 0 or m % 20 == n} for n in range(20))
    assert seen.by("bad") == {m for m in fine if m % 5 == 0}
    assert seen.broken() == {"bad"}
    assert seen.answer.undecidable == {33}


async def test_everybody_is_told_in_one_word(engine):
    """What everybody sees is EVERYBODY, whichever form was asked."""
    await engine.admin.execute(
        POSTS + "CREATE POLICY p ON posts "
        "USING (published OR author_id = current_setting('ayb.user_id')::uuid)"
    )
    for is_joining in (True, False):
        engine.visibility = Visibility(engine.pool, is_joining=is_joining)
        seen = await engine.ask("posts", MEMBERS, [post(1, A, published=True), post(2, B)])
        assert seen.answer.visible[0] is EVERYBODY
        assert seen.answer.visible[1] is not EVERYBODY


async def test_nobody_asks(engine):
    """An empty audience is no error."""
    await engine.admin.execute(POSTS + AUTHOR)
    relid = await engine.relid("posts")
    for is_joining in (True, False):
        visibility = Visibility(engine.pool, is_joining=is_joining)
        answer = await visibility.ask(relid, Audience(ROLE), await engine.images("posts"), 0)
        assert len(answer.grouping) == 0


@pytest.mark.parametrize("is_joining", [True, False])
async def test_role_taken_for_the_session_does_not_stay(engine, database, is_joining):
    """A role that a policy's or a domain's function takes for good is not the next question's."""
    await engine.admin.execute(
        """
        CREATE FUNCTION sly(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
            PERFORM set_config('role', 'ayb_authenticated', false);
            RETURN true;
        END $$;
        CREATE DOMAIN taken AS text CHECK (sly(VALUE));
        CREATE TABLE notes (id int PRIMARY KEY, note taken);
        INSERT INTO notes VALUES (1, 'x'); RESET ROLE;
        GRANT SELECT ON notes TO ayb_authenticated;
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON notes USING (id = 1 AND current_setting('ayb.user_id') <> '');
        CREATE POLICY q ON notes AS RESTRICTIVE USING (note = 'x');
        """
        + POSTS
        + "CREATE POLICY p ON posts USING (sly(''))"
    )
    await engine.insert("posts", post(1, A))
    async with gateway_pool(database) as pool:
        engine.visibility = Visibility(pool, is_joining=is_joining)
        for _ in range(3):
            for table, image in (("posts", post(1, A)), ("notes", {"id": 1, "note": "x"})):
                seen = await engine.ask(table, MEMBERS, [image])
                assert seen.by("a") == seen.by("b") == {0}
                async with pool.acquire() as session:
                    assert await session.fetchval("SELECT current_user") == "ayb_gateway"


async def test_table_locked_by_ddl(engine, database):
    """Rules that cannot be read for a lock are asked for again; then clients are told so."""
    await engine.admin.execute(POSTS + AUTHOR)
    relid = await engine.relid("posts")
    async with gateway_pool(database, statement_timeout="200") as pool:
        engine.visibility = Visibility(pool)
        async with database.connect() as other, other.transaction():
            await other.execute("LOCK TABLE posts")
            for _ in range(3):
                with pytest.raises(DatabaseUnavailableError):
                    await engine.ask(relid, MEMBERS, [post(1, A)])
            seen = await engine.ask(relid, MEMBERS, [post(1, A)])
            assert seen.answer.undecidable == {0}
            assert seen.by("a") == seen.by("b") == set()
        assert (await engine.ask(relid, MEMBERS, [post(1, A)])).by("a") == {0}


async def test_statements_that_a_policy_deallocates(engine, database):
    """A session whose statements a policy's function threw away is not used for others."""
    await engine.admin.execute(
        """
        CREATE FUNCTION sly() RETURNS boolean LANGUAGE plpgsql
            AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN true; END $$;
        CREATE TABLE notes (id int PRIMARY KEY);
        GRANT SELECT ON notes TO ayb_authenticated;
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON notes USING (sly());
        """
        + POSTS
        + AUTHOR
    )
    async with gateway_pool(database) as pool:
        engine.visibility = Visibility(pool)
        assert (await engine.ask("posts", MEMBERS, [post(1, A)])).by("a") == {0}
        for _ in range(3):
            seen = await engine.ask("notes", MEMBERS, [{"id": 1}])
            assert seen.by("a") == {0}
            seen = await engine.ask("posts", MEMBERS, [post(1, A)])
            assert seen.by("a") == {0}
            assert not seen.broken()
            assert not seen.answer.undecidable


async def test_a_column_that_was_not_computed_yet(engine):
    """A generated column that is not stored is null in images until the relay has found it: such an
    image is not of the table, and those captured later are.
    """
    if await engine.admin.fetchval("SELECT current_setting('server_version_num')::int < 180000"):
        pytest.skip("Postgres 18 or newer")
    await engine.admin.execute(POSTS + AUTHOR)
    capture = Capture(engine.admin, [parse_pattern("public.*")], lock_milliseconds=500)
    await capture.install()
    await capture.note_names()
    await engine.admin.execute(
        "ALTER TABLE posts ADD twice bigint GENERATED ALWAYS AS (id * 2) VIRTUAL"
    )

    async def captured() -> list[tuple[object, bool]]:
        """Return what each image has in the column, and whether it may mean something else."""
        await engine.admin.execute("INSERT INTO posts SELECT count(*) + 1 FROM posts")
        seen = await engine.ask("posts", MEMBERS, [])
        rows = await engine.admin.fetch("SELECT seq, new FROM ayb_realtime.changes ORDER BY seq")
        return [
            (json.loads(new)["twice"], seen.answer.rules.means_others(new.encode(), seq))
            for seq, new in rows
        ]

    assert await captured() == [(None, True)]
    await capture.install()
    for _ in range(2):
        found = await captured()
        assert found[:2] == [(None, True), (4, False)]
        await capture.install()
        await capture.note_names()
