"""The visibility cases, at the engine: what Postgres decides about row images."""

from __future__ import annotations

import uuid

import pytest

from gateway.visibility.engine import EVERYBODY
from tests.integration.visibility.conftest import ROLE, settings

A = str(uuid.UUID(int=1))
B = str(uuid.UUID(int=2))
C = str(uuid.UUID(int=3))
USERS = {"a": settings(user=A), "b": settings(user=B), "nobody": settings()}
ONLY_USERS = {"a": settings(user=A), "b": settings(user=B)}

POSTS = """
    CREATE TABLE posts (id bigint PRIMARY KEY, author_id uuid, title text, published boolean);
    GRANT SELECT ON posts TO ayb_authenticated;
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
"""
AUTHOR = "CREATE POLICY author ON posts USING (author_id = current_setting('ayb.user_id')::uuid)"


def post(number, author, *, published=False, title="t"):
    return {"id": number, "author_id": author, "title": title, "published": published}


async def test_values_that_look_like_separators_stay_apart(engine):
    """A claim decides for its own client, whatever characters it consists of."""
    tenants = ["", "a", "\x1f", "\x1f0\x1f", "a\x1fb", "b", "null0null", "null", "{a,b}", "NULL"]
    await engine.admin.execute(
        """
        CREATE TABLE notes (id int PRIMARY KEY, tenant text);
        GRANT SELECT ON notes TO ayb_authenticated;
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON notes USING (tenant = nullif(current_setting('ayb.tenant_id'), ''))
        """
    )
    members = {tenant: settings(tenant=tenant) for tenant in tenants}
    images = [{"id": n, "tenant": tenant} for n, tenant in enumerate(tenants)]
    seen = await engine.ask("notes", members, images)
    assert str(engine.visibility.plan_of(await engine.relid("notes"), ROLE).form) == "joined"
    for n, tenant in enumerate(tenants):
        assert seen.by(tenant) == ({n} if tenant else set()), tenant


async def test_author(engine):
    """Who is the author by a setting sees the row, and nobody else does."""
    await engine.admin.execute(POSTS + AUTHOR)
    seen = await engine.ask("posts", ONLY_USERS, [post(1, A), post(2, B), post(3, C)])
    assert seen.by("a") == {0}
    assert seen.by("b") == {1}
    assert seen.answer.columns == {"id", "author_id", "title", "published"}
    assert not seen.answer.broken


async def test_no_policy_is_no_row(engine):
    """RLS without a policy lets nobody see anything; without RLS everybody sees everything."""
    await engine.admin.execute(POSTS)
    assert (await engine.ask("posts", USERS, [post(1, A)])).by("a") == set()
    await engine.admin.execute("ALTER TABLE posts DISABLE ROW LEVEL SECURITY")
    assert (await engine.ask("posts", USERS, [post(1, A)])).answer.visible == [EVERYBODY]
    assert engine.recorder.questions == ["closed", "open"]


@pytest.mark.parametrize("call", ["auth.uid()", "(SELECT auth.uid())"])
async def test_wrapper(engine, call):
    """A wrapper function around a setting, called or selected, decides as the setting does."""
    await engine.admin.execute(
        POSTS
        + f"""
        CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO ayb_authenticated;
        CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
            select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
        $$;
        CREATE POLICY author ON posts USING (author_id = {call});
        """
    )
    members = {
        "a": settings(claims=f'{{"sub": "{A}"}}'),
        "b": settings(claims=f'{{"sub": "{B}"}}'),
        "nobody": settings(),
    }
    seen = await engine.ask("posts", members, [post(1, A), post(2, B)])
    assert [seen.by(m) for m in ("a", "b", "nobody")] == [{0}, {1}, set()]
    assert not seen.answer.broken


@pytest.mark.parametrize("secured", [False, True])
async def test_membership(engine, secured):
    """Membership in another table decides, also where that table has RLS itself."""
    await engine.admin.execute(
        """
        CREATE TABLE docs (id int PRIMARY KEY, project int);
        CREATE TABLE members (project int, user_id uuid, banned boolean);
        GRANT SELECT ON docs, members TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY member ON docs USING (EXISTS (
            SELECT FROM members m WHERE m.project = docs.project
            AND m.user_id = current_setting('ayb.user_id')::uuid));
        """
    )
    await engine.admin.execute(f"INSERT INTO members VALUES (1, '{A}', false), (1, '{B}', true)")
    if secured:
        await engine.admin.execute(
            "ALTER TABLE members ENABLE ROW LEVEL SECURITY; "
            "CREATE POLICY fine ON members USING (NOT banned)"
        )
    seen = await engine.ask("docs", ONLY_USERS, [{"id": 1, "project": 1}, {"id": 2, "project": 2}])
    assert seen.by("a") == {0}
    assert seen.by("b") == (set() if secured else {0})

    await engine.admin.execute("DELETE FROM members")
    seen = await engine.ask("docs", ONLY_USERS, [{"id": 1, "project": 1}])
    assert seen.answer.visible == [frozenset()]


async def test_security_definer(engine):
    """A SECURITY DEFINER function sees with its owner's rights, under the caller's settings."""
    await engine.admin.execute(
        POSTS
        + """
        CREATE TABLE friends (one uuid, other uuid);
        CREATE FUNCTION is_friend(author uuid) RETURNS boolean LANGUAGE plpgsql
        STABLE SECURITY DEFINER AS $$ BEGIN
            RETURN EXISTS (SELECT FROM friends
                WHERE one = author AND other = current_setting('ayb.user_id')::uuid);
        END $$;
        CREATE POLICY friends ON posts USING (is_friend(author_id));
        """
    )
    await engine.admin.execute(f"INSERT INTO friends VALUES ('{A}', '{B}')")
    images = await engine.insert("posts", post(1, A), post(2, B))
    seen = await engine.ask("posts", ONLY_USERS, images)
    assert seen.by("a") == set()
    assert seen.by("b") == {0}


async def test_restrictive_beside_permissive(engine):
    """Two permissive policies are ORed, a restrictive one is ANDed to them."""
    await engine.admin.execute(
        POSTS
        + AUTHOR
        + """;
        CREATE POLICY public ON posts FOR SELECT USING (published);
        CREATE POLICY clean ON posts AS RESTRICTIVE USING (title <> 'spam');
        CREATE POLICY writes ON posts FOR INSERT WITH CHECK (true);
        CREATE POLICY changes ON posts FOR UPDATE USING (true);
        """
    )
    images = [
        post(1, A), post(2, B, published=True), post(3, B), post(4, A, title="spam"),
        post(5, B, published=True, title="spam"),
    ]  # fmt: skip
    seen = await engine.ask("posts", ONLY_USERS, images)
    assert seen.by("a") == {0, 1}
    assert seen.by("b") == {1, 2}


async def test_policy_of_a_role_reached_by_membership(engine):
    """A policy TO a role applies to its members, and to nobody else."""
    await engine.admin.execute(
        POSTS
        + """
        CREATE ROLE t_editors; CREATE ROLE t_middle; CREATE ROLE t_member; CREATE ROLE t_other;
        """
    )
    try:
        await engine.admin.execute(
            """
            GRANT t_editors TO t_middle; GRANT t_middle TO t_member;
            GRANT t_member, t_other TO ayb_gateway;
            GRANT SELECT ON posts TO t_member, t_other;
            CREATE POLICY editors ON posts TO t_editors USING (true);
            """
        )
        ask = lambda role: engine.ask("posts", USERS, [post(1, A)], role=role)  # noqa: E731
        assert (await ask("t_member")).by("a") == {0}
        assert (await ask("t_other")).by("a") == set()
        assert (await ask(ROLE)).by("a") == set()
        await engine.admin.execute("REVOKE t_middle FROM t_member")
        assert (await ask("t_member")).by("a") == set()
    finally:
        await engine.admin.execute(
            "DROP OWNED BY t_editors, t_middle, t_member, t_other;"
            "DROP ROLE t_editors, t_middle, t_member, t_other"
        )


async def test_owner_and_force(engine):
    """The table's owner passes the policies by, unless they are forced on it."""
    await engine.admin.execute(POSTS + AUTHOR + "; ALTER TABLE posts OWNER TO ayb_authenticated")
    assert (await engine.ask("posts", ONLY_USERS, [post(1, C)])).answer.visible == [EVERYBODY]
    await engine.admin.execute("ALTER TABLE posts FORCE ROW LEVEL SECURITY")
    assert (await engine.ask("posts", ONLY_USERS, [post(1, C)])).by("a") == set()


async def test_one_bad_claim_among_fifty(engine):
    """A client whose claim does not cast gets an error and no rows; the other 49 get everything."""
    await engine.admin.execute(POSTS + AUTHOR)
    members: dict[object, tuple[str, ...]] = {
        n: settings(user=str(uuid.UUID(int=n))) for n in range(49)
    }
    members["bad"] = settings(user="not a uuid")
    images = [post(n, str(uuid.UUID(int=n))) for n in range(49)]
    seen = await engine.ask("posts", members, images)
    assert all(seen.by(n) == {n} for n in range(49))
    assert seen.by("bad") == set()
    assert seen.broken() == {"bad"}
    [message] = seen.answer.broken.values()
    assert "22P02" in message
    assert "not a uuid" not in message


async def test_a_bad_claim_does_not_hide_what_needs_no_claim(engine):
    """With a claim that does not cast, rows that another arm of the policy decides are seen."""
    await engine.admin.execute(
        POSTS + "CREATE POLICY p ON posts "
        "USING (published OR author_id = current_setting('ayb.user_id')::uuid)"
    )
    members = {"a": settings(user=A), "bad": settings(user="bad")}
    seen = await engine.ask("posts", members, [post(1, A), post(2, B, published=True)])
    assert seen.by("a") == {0, 1}
    assert seen.by("bad") == {1}
    assert seen.broken() == {"bad"}


ALIASED = (
    "EXISTS (SELECT FROM pg_class o JOIN other odd ON odd.id = o.relname WHERE o.relname = odd.id)"
)
SHADOWED = (
    "current_setting('ayb.user_id') = author "
    "AND EXISTS (SELECT FROM other author WHERE id = author.id)"
)


@pytest.mark.parametrize(
    ("expression", "images_seen"),
    [
        ("title = 'current_setting(''ayb.user_id''::text)'", {0}),
        ("current_setting = 'ayb.user_id'", {1}),
        ("\"current_setting\" = 'x''y' AND title = '--'", {2}),
        ("EXISTS (SELECT FROM other odd WHERE odd.current_setting = odd.id)", set()),
        (ALIASED, set()),
        (SHADOWED, {3}),
    ],
)  # fmt: skip
async def test_odd_names_and_texts(engine, expression, images_seen):
    """Literals, columns and aliases that look like settings are judged as Postgres does."""
    await engine.admin.execute(
        """
        CREATE TABLE odd (id text PRIMARY KEY, title text, current_setting text, author text);
        CREATE TABLE other (id text, current_setting text);
        INSERT INTO other VALUES ('1', '2');
        INSERT INTO odd VALUES
            ('1', 'current_setting(''ayb.user_id''::text)', 'a', NULL),
            ('2', '/*', 'ayb.user_id', NULL),
            ('3', '--', 'x''y', NULL),
            ('4', $$;'$$, 'x', 'me');
        GRANT SELECT ON odd, other TO ayb_authenticated;
        ALTER TABLE odd ENABLE ROW LEVEL SECURITY;
        """
    )
    await engine.admin.execute(f"CREATE POLICY p ON odd USING ({expression})")
    seen = await engine.ask("odd", {"me": settings(user="me")}, await engine.images("odd"))
    assert seen.by("me") == images_seen
    assert not seen.answer.broken


@pytest.mark.parametrize(
    ("objects", "policy"),
    [
        (
            """CREATE TYPE mark AS ENUM ('m');
            CREATE FUNCTION mark_json(mark) RETURNS json LANGUAGE plpgsql STABLE
                AS $$ BEGIN RETURN to_json(concat(current_setting('ayb.user_id', true))); END $$;
            CREATE CAST (mark AS json) WITH FUNCTION mark_json(mark);
            CREATE TABLE t (id int PRIMARY KEY, name text, marked mark)""",
            "to_jsonb(marked) = to_jsonb(name)",
        ),
        (
            """CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE
                AS E'SELECT current_setting(\\'ayb.user_id\\') -- x\\r || \\'x\\'\\n';
            CREATE TABLE t (id int, name text, marked text)""",
            "name || 'x' = me()",
        ),
    ],
    ids=["cast to json", "comment up to a carriage return"],
)
async def test_what_a_policy_calls_unseen(engine, objects, policy):
    """Functions that no dependency names, and code that only seems to be a comment, decide too."""
    await engine.admin.execute(
        f"{objects}; GRANT SELECT ON t TO ayb_authenticated;"
        f"ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING ({policy})"
    )
    await engine.admin.execute("INSERT INTO t VALUES (0, 'a', 'm'), (1, 'b', 'm')")
    images = await engine.images("t")
    seen = await engine.ask("t", {"a": settings(user="a"), "b": settings(user="b")}, images)
    if "CAST" in objects:
        # Each client's SELECT shows its row, but with another value than the image has.
        assert seen.by("a") == seen.by("b") == set()
        assert seen.answer.superseded == {0: {0}, 1: {1}}
    else:
        assert seen.by("a") == {0}
        assert seen.by("b") == {1}
