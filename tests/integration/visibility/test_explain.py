"""`python -m gateway explain`: why a client gets an event or not."""

from __future__ import annotations

import time

import pytest

from gateway.auth.claims import Claims
from gateway.diagnostics.explain import ExplainError, explain
from gateway.diagnostics.explanation import lines
from tests.integration.visibility.conftest import ROLE
from tests.integration.visibility.test_cases import AUTHOR, POSTS, A, B


def claims(user: str) -> Claims:
    return Claims(user, "", "", "{}", ROLE, time.time() + 60)


@pytest.fixture
async def posts(engine):
    """A captured table with one row of A, created, then published by an update."""
    await engine.admin.execute(
        POSTS + AUTHOR + "; CREATE POLICY shown ON posts USING (published);"
        "CREATE POLICY clean ON posts AS RESTRICTIVE USING (title <> 'spam')"
    )
    relid = await engine.relid("posts")
    await engine.admin.execute(
        f'CREATE TRIGGER "!ayb_realtime_row_{relid}" AFTER INSERT OR UPDATE OR DELETE ON posts '
        "FOR EACH ROW EXECUTE FUNCTION ayb_realtime.capture_row()"
    )
    await engine.admin.execute(
        f"INSERT INTO posts VALUES (42, '{A}', 'Secret words', false), (43, '{B}', 't', false);"
        "UPDATE posts SET published = true WHERE id = 42"
    )
    return engine


async def test_each_policy_by_name(posts):
    """For each change each policy says its verdict; form, cohort and grants are told."""
    told = await explain(posts.pool, table="posts", key=["42"], claims=claims(B))
    assert [(c.action, c.is_visible) for c in told.changes] == [("update", True), ("create", False)]
    assert [(p.name, p.kind, p.verdict) for p in told.changes[1].policies] == [
        ("author", "permissive", False),
        ("clean", "restrictive", True),
        ("shown", "permissive", False),
    ]
    assert told.is_shown_now is True
    assert told.form == "joined"
    assert told.reads == ("ayb.user_id",)
    text = "\n".join(lines(told))
    assert "permissive policy author: does not show it" in text
    assert "not yet batched" in text
    assert "Secret" not in text


async def test_own_row(posts):
    """The author sees both changes."""
    told = await explain(posts.pool, table="public.posts", key=["42"], claims=claims(A))
    assert [c.is_visible for c in told.changes] == [True, True]


async def test_hidden_columns_and_no_grants(posts):
    """Columns that the role may not read are named, and so is the missing grant."""
    await posts.admin.execute(
        "REVOKE SELECT ON posts FROM ayb_authenticated; "
        "GRANT SELECT (id, title) ON posts TO ayb_authenticated"
    )
    told = await explain(posts.pool, table="posts", key=["42"], claims=claims(A))
    assert told.hidden == ("author_id", "published")
    await posts.admin.execute("REVOKE SELECT (id, title) ON posts FROM ayb_authenticated")
    told = await explain(posts.pool, table="posts", key=["42"], claims=claims(A))
    assert any("GRANT SELECT" in line for line in lines(told))


async def test_bad_claim(posts):
    """A claim that does not cast is reported in the words that the client receives."""
    told = await explain(posts.pool, table="posts", key=["43"], claims=claims("not a uuid"))
    assert told.failure is not None
    assert told.is_shown_now is None
    assert any("22P02" in line for line in lines(told))


async def test_no_policy_and_unknown_row(posts):
    """Without a policy that applies it says so; of a row never seen it says that too."""
    await posts.admin.execute("DROP POLICY author ON posts; DROP POLICY shown ON posts")
    told = await explain(posts.pool, table="posts", key=["7"], claims=claims(A))
    text = "\n".join(lines(told))
    assert "no permissive policy" in text
    assert "none in the outbox" in text


async def test_delete_is_told_to_all(posts):
    """A delete goes to every subscriber, unless deletes are judged."""
    await posts.admin.execute("DELETE FROM posts WHERE id = 43")
    [change, _] = (await explain(posts.pool, table="posts", key=["43"], claims=claims(A))).changes
    assert change.is_delivered_to_all
    told = await explain(posts.pool, table="posts", key=["43"], claims=claims(A), deletes="visible")
    assert not told.changes[0].is_delivered_to_all
    assert told.changes[0].is_visible is False


async def test_wrong_questions(posts):
    """A table that is not captured and a key of another length are said to be so."""
    await posts.admin.execute("CREATE TABLE other (id int PRIMARY KEY)")
    for table, key in (("other", ["1"]), ("none", ["1"]), ("posts", ["1", "2"])):
        with pytest.raises(ExplainError):
            await explain(posts.pool, table=table, key=key, claims=claims(A))


async def test_an_opaque_table(posts):
    """A change that is withheld since the row has changed is said to be superseded."""
    await posts.admin.execute(
        """
        CREATE FUNCTION fine(bigint) RETURNS boolean LANGUAGE plpgsql STABLE
            AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN true; END $$;
        ALTER POLICY shown ON posts USING (fine(id));
        """
    )
    told = await explain(posts.pool, table="posts", key=["42"], claims=claims(B))
    assert told.form == "opaque"
    assert [(c.action, c.is_visible, c.is_superseded) for c in told.changes] == [
        ("update", True, False),
        ("create", False, True),
    ]
    text = "\n".join(lines(told))
    assert "superseded" in text
    assert "opaque form: a policy calls public.fine()" in text
