"""The live stream and replay ask about one table at the same time; and the server's own errors."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from gateway.visibility.answer import Image
from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import Visibility
from shared.errors import DatabaseUnavailableError
from tests.integration.visibility.conftest import ROLE, Seen, settings
from tests.integration.visibility.test_cases import AUTHOR, POSTS, post

USERS = [str(UUID(int=n)) for n in range(1, 41)]


async def test_live_stream_and_replay_share_what_is_kept(engine):
    """While clients come and go on both sides, each question is answered, and rightly."""
    await engine.admin.execute(POSTS + AUTHOR)
    relid = await engine.relid("posts")
    images = await engine.insert("posts", *(post(n, user) for n, user in enumerate(USERS)))
    live: Audience[str] = Audience(ROLE)
    for user in USERS[:5]:
        live.add(user, settings(user))

    async def ask(audience: Audience[str]) -> None:
        seen = Seen(await engine.visibility.ask(relid, audience, images, 0))
        for cohort in seen.answer.grouping.members:
            for user in cohort:
                assert seen.by(user) == {USERS.index(user)}

    async def follow() -> None:
        for user in USERS[5:]:
            live.add(user, settings(user))
            await ask(live)

    async def replay() -> None:
        for turn in range(35):
            audience: Audience[str] = Audience(ROLE)
            audience.add(USERS[turn % 7], settings(USERS[turn % 7]))
            await ask(audience)

    async with asyncio.TaskGroup() as group:
        for work in (follow(), replay(), replay()):
            group.create_task(work)


@pytest.mark.parametrize("state", ["08001", "08999", "53200", "57P04", "57999", "58030"])
async def test_an_error_of_the_servers_kind_is_not_a_denial(engine, state):
    """A policy that raises one for a user, as a foreign table would, holds its table up for a
    moment; then that user is known to be unanswered, and the others get theirs.
    """
    await engine.admin.execute(POSTS)
    await engine.admin.execute(f"""
        CREATE FUNCTION far(title text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
        BEGIN
            IF current_setting('ayb.user_id') = '{USERS[0]}' THEN
                RAISE EXCEPTION 'the other server is away' USING ERRCODE = '{state}';
            END IF;
            RETURN true;
        END $$;
        CREATE POLICY p ON posts USING (far(title));
    """)
    images = await engine.insert("posts", post(1, USERS[0]))
    members = {user: settings(user) for user in USERS[:3]}
    for _ in range(5):
        try:
            seen = await engine.ask("posts", members, images)
            break
        except DatabaseUnavailableError:
            continue
    assert seen.by(USERS[0]) == set()
    assert seen.by(USERS[1]) == seen.by(USERS[2]) == {0}
    unanswered = {
        member for n in seen.answer.unanswered for member in seen.answer.grouping.members[n]
    }
    assert unanswered == seen.broken() == {USERS[0]}


FAR = """
    CREATE FUNCTION far(title text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
    BEGIN
        IF current_setting('request.jwt.claims') = 'raises' THEN
            RAISE EXCEPTION 'the other server is away' USING ERRCODE = '58030';
        END IF;
        RETURN true;
    END $$;
    CREATE POLICY p ON posts USING (far(title));
"""


@pytest.mark.parametrize("raising", [{0}, {59}, {0, 59}], ids=["one half", "the other", "both"])
async def test_a_question_in_two_sessions_fails_once(engine, raising):
    """Users whose policies raise such errors are found out after three questions, whether they are
    in one half of the cohorts or in both, and the others get their answer.
    """
    engine.visibility = Visibility(engine.pool, spare_sessions=1, is_joining=False)
    await engine.admin.execute(POSTS + FAR)
    images = await engine.insert("posts", post(1, USERS[0]))
    members = {n: settings(f"u{n}", claims="raises" if n in raising else str(n)) for n in range(60)}
    for _ in range(3):
        with pytest.raises(DatabaseUnavailableError):
            await engine.ask("posts", members, images)
    seen = await engine.ask("posts", members, images)
    assert seen.broken() == raising
    assert all(seen.by(n) == ({0} if n not in raising else set()) for n in members)


async def test_what_is_answered_of_a_question_forgives_nothing(engine, monkeypatch):
    """Nor does a part of the images that can be answered keep the table from being answered."""
    monkeypatch.setattr("gateway.visibility.looped._MOST_PAIRS", 3)
    engine.visibility = Visibility(engine.pool, is_joining=False)
    await engine.admin.execute(POSTS + FAR.replace("= 'raises'", "= 'raises' AND title = 'bad'"))
    rows = [post(n, USERS[0], title=title) for n, title in ((1, "good"), (2, "bad"))]
    images = await engine.insert("posts", *rows)
    members = {n: settings(f"u{n}", claims="raises" if n == 0 else str(n)) for n in range(3)}
    for _ in range(3):
        with pytest.raises(DatabaseUnavailableError):
            await engine.ask("posts", members, images)
    seen = await engine.ask("posts", members, images)
    assert seen.broken() == {0}
    assert seen.by(1) == {0, 1}


async def test_other_questions_forgive_nothing(engine):
    """A client in a lane whose policies raise such errors does not hold that lane up for as long
    as questions about other changes are answered for the clients of the live stream.
    """
    engine.visibility = Visibility(engine.pool, is_joining=False)
    await engine.admin.execute(POSTS + FAR)
    live = {"a": settings("a")}
    behind = {"x": settings("x", claims="raises"), "b": settings("b")}

    async def insert(number: int) -> list[Image]:
        (image,) = await engine.insert("posts", post(number, USERS[0]))
        return [Image(image.json, number)]

    earlier = await insert(1)
    for number in range(2, 5):
        with pytest.raises(DatabaseUnavailableError):
            await engine.ask("posts", behind, earlier)
        seen = await engine.ask("posts", live, await insert(number))
        assert seen.by("a") == {0}
    seen = await engine.ask("posts", behind, earlier)
    assert (seen.broken(), seen.by("b")) == ({"x"}, {0})
