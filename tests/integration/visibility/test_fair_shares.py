"""The time that cohorts take is charged to their users, and shared fairly between them."""

from __future__ import annotations

import json

from gateway.visibility.cohorts import Audience, Settings
from gateway.visibility.engine import Image, Visibility
from gateway.visibility.queries import VisibilityQueries
from tests.integration.visibility.conftest import ROLE, Engine, Seen, gateway_pool, settings

NOTES = """
    CREATE TABLE notes (id int PRIMARY KEY, body text);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON notes TO ayb_authenticated;
    CREATE FUNCTION takes_a_while(id int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
        IF current_setting('request.jwt.claims')::json ->> 'sub' = 'costly' THEN
            PERFORM pg_sleep((current_setting('request.jwt.claims')::json ->> 'seconds')::float);
        END IF;
        RETURN true;
    END $$;
    CREATE POLICY p ON notes USING (takes_a_while(id));
"""


def token(user: str, number: int, seconds: float) -> Settings:
    """One of a user's tokens, of which policies read the claims as a whole."""
    claims = json.dumps({"sub": user, "jti": number, "seconds": seconds})
    return settings(user=user, claims=claims)


async def ask(engine: Engine, audience: Audience[str], images: list[Image]) -> Seen:
    relid = await engine.relid("notes")
    return Seen(await engine.visibility.ask(relid, audience, images, 0, may_postpone=True))


def postponed(seen: Seen) -> set[str]:
    return {m for n in seen.answer.postponed for m in seen.answer.grouping.members[n]}


async def test_six_tokens_of_a_user_time_out_once(engine: Engine, database, monkeypatch) -> None:
    """Though each token is a cohort of its own, the user is set aside after the first of them."""
    timed_out: list[int] = []
    each = VisibilityQueries.each

    async def counted(*arguments, **options):
        answer = await each(*arguments, **options)
        timed_out.append(list(answer.broken.values()).count("57014"))
        return answer

    monkeypatch.setattr(VisibilityQueries, "each", counted)
    await engine.admin.execute(NOTES)
    audience: Audience[str] = Audience(ROLE)
    for n in range(6):
        audience.add(f"costly {n}", token("costly", n, 60))
    audience.add("other", token("other", 0, 0))
    images = await engine.insert("notes", {"id": 1, "body": "x"})
    async with gateway_pool(database, statement_timeout="400") as pool:
        engine.visibility = Visibility(pool, loop_seconds=0.1)
        for _ in range(2):
            seen = await ask(engine, audience, images)
            assert seen.by("other") == {0}
            assert seen.broken() == {f"costly {n}" for n in range(6)}
    assert sum(timed_out) == 1


async def test_a_costly_user_is_postponed_and_the_others_are_answered(engine: Engine) -> None:
    """Twenty tokens of a user who takes half a second each do not hold up the answer for others;
    they are left out, not denied, and begin last in the next question.
    """
    await engine.admin.execute(NOTES)
    audience: Audience[str] = Audience(ROLE)
    for n in range(20):
        audience.add(f"costly {n}", token("costly", n, 0.25))
    for n in range(5):
        audience.add(f"other {n}", token(f"other {n}", 0, 0))
    images = await engine.insert("notes", {"id": 1, "body": "x"}, {"id": 2, "body": "y"})
    seen = await ask(engine, audience, images)
    assert all(seen.by(f"other {n}") == {0, 1} for n in range(5))
    first = postponed(seen)
    assert len(first) > 10
    assert first <= {f"costly {n}" for n in range(20)}
    assert not seen.broken()
    assert seen.answer.costly == seen.answer.postponed
    again = await ask(engine, audience, images)
    assert all(again.by(f"other {n}") == {0, 1} for n in range(5))
    assert postponed(again) == {f"costly {n}" for n in range(20)}
    assert again.answer.costly == again.answer.postponed


async def test_a_question_that_is_half_done_is_finished(engine: Engine) -> None:
    """What is left takes no longer than what is done, and another question would cost more."""
    await engine.admin.execute(NOTES)
    images = await engine.insert("notes", {"id": 1, "body": "x"})
    audience: Audience[str] = Audience(ROLE)
    for n in range(5):
        audience.add(f"member {n}", token(f"member {n}", n, 0.3))
    seen = await ask(engine, audience, images)
    assert all(seen.by(f"member {n}") == {0} for n in range(5))
    assert not seen.answer.postponed


async def test_what_the_time_does_not_suffice_for_is_left_to_the_next_question(
    engine: Engine,
) -> None:
    """Where there is no one to be spared, no user is costly. A question takes about its time, and
    asks in the order of the audience; the questions that follow answer what it has left out.
    """
    await engine.admin.execute(NOTES)
    images = await engine.insert("notes", {"id": 1, "body": "x"})
    engine.visibility = Visibility(engine.pool, loop_seconds=0.2)
    everyone = [f"costly {n}" for n in range(8)]
    left = everyone
    while left:
        some: Audience[str] = Audience(ROLE)
        for member in left:
            some.add(member, token("costly", everyone.index(member), 0.1))
        seen = await ask(engine, some, images)
        assert not seen.answer.costly
        answered = [member for member in left if member not in postponed(seen)]
        assert answered
        assert answered == left[: len(answered)]
        assert all(seen.by(member) == {0} for member in answered)
        assert len(answered) < 8
        left = left[len(answered) :]
