"""DDL against questions: no answer is given by rules that were not in force while it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import random

from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import Image, Visibility
from gateway.visibility.queries import VisibilityQueries
from gateway.visibility.question_errors import (
    RulesChangedError,
)
from shared.errors import DatabaseUnavailableError
from tests.integration.visibility.conftest import ROLE, Seen, settings
from tests.integration.visibility.test_cases import POSTS, A, B, post

STATES = {
    "author": "CREATE POLICY p ON posts USING (author_id = current_setting('ayb.user_id')::uuid)",
    "wrapped": "CREATE POLICY p ON posts USING (author_id = (SELECT me()))",
    "titled": "CREATE POLICY p ON posts USING (title = 't')",
    "nobody": "CREATE POLICY p ON posts AS RESTRICTIVE USING (true)",
    "limited": "CREATE POLICY p ON posts USING (true); CREATE POLICY q ON posts AS RESTRICTIVE "
    "USING (author_id = current_setting('ayb.user_id')::uuid)",
    "looped": "CREATE POLICY p ON posts USING (author_id = me_slowly())",
    "secret": "CREATE POLICY p ON posts USING (true); "
    "REVOKE SELECT ON posts FROM ayb_authenticated",
}
BARE = (
    "DROP POLICY IF EXISTS p ON posts; DROP POLICY IF EXISTS q ON posts; "
    "GRANT SELECT ON posts TO ayb_authenticated; "
)
SEEN_BY_B = {
    "author": {1},
    "wrapped": {1},
    "titled": {0, 1},
    "nobody": set(),
    "limited": {1},
    "looped": {1},
    "secret": None,
}
ME = """
    CREATE FUNCTION me() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT current_setting('ayb.user_id')::uuid $$;
"""
ME_SLOWLY = """
    CREATE FUNCTION me_slowly() RETURNS uuid LANGUAGE plpgsql STABLE
        AS $$ BEGIN RETURN current_setting('ayb.user_id')::uuid; END $$;
"""


async def test_ddl_against_questions(engine):
    """While policies and grants change all the time, each answer is one of rules then in force."""
    chance = random.Random(5)
    await engine.admin.execute(POSTS + ME + ME_SLOWLY + STATES["author"])
    relid = await engine.relid("posts")
    history = ["author"]
    begun = [0]
    done = asyncio.Event()

    async def change() -> None:
        async with engine.database.connect() as changer:
            for number in range(1_000):
                if number >= 150 and exact > 20:
                    break
                state = chance.choice(list(STATES))
                history.append(state)
                begun[0] += 1
                await changer.execute(f"BEGIN; {BARE}{STATES[state]}; COMMIT")
                committed[0] += 1
                await asyncio.sleep(chance.choice([0, 0, 0.002, 0.01, 0.1]))
        done.set()

    committed = [0]
    audience = Audience(ROLE)
    audience.add("a", settings(user=A))
    audience.add("b", settings(user=B))
    images = [Image(b'{"id": %d, "author_id": "%s", "title": "t", "published": false}'
                    % (n, author.encode())) for n, author in ((1, A), (2, B))]  # fmt: skip
    exact = 0

    async def ask(visibility: Visibility) -> None:
        nonlocal exact
        while not done.is_set():
            oldest = committed[0]
            try:
                answer = await visibility.ask(relid, audience, images, 0)
            except DatabaseUnavailableError:
                continue
            newest = begun[0]
            seen = Seen(answer).by("b") if answer.columns else None
            possible = [SEEN_BY_B[state] for state in history[oldest : newest + 1]]
            assert seen in possible, (history[oldest : newest + 1], seen, answer)
            exact += len(possible) == 1

    async with asyncio.TaskGroup() as group:
        group.create_task(change())
        group.create_task(ask(engine.visibility))
        group.create_task(ask(Visibility(engine.pool, is_joining=False)))
    assert exact > 20
    await engine.admin.execute(f"{BARE}{STATES['author']}")
    assert (await engine.ask(relid, {"b": settings(user=B)}, [post(1, A), post(2, B)])).by("b") == {
        1
    }


async def test_rules_read_while_columns_come_and_go(engine):
    """What is half gone while the rules are read makes them be read again, and breaks nothing."""
    await engine.admin.execute(POSTS + ME + ME_SLOWLY + STATES["wrapped"])
    relid = await engine.relid("posts")
    done = asyncio.Event()
    asked = 0

    async def change() -> None:
        async with engine.database.connect() as changer:
            for _ in range(400):
                await changer.execute("ALTER TABLE posts ADD passing int")
                await changer.execute("ALTER TABLE posts DROP passing")
                await changer.execute(
                    f"BEGIN; {BARE}; DROP FUNCTION me; {ME} {STATES['wrapped']}; COMMIT"
                )
        done.set()

    async def ask() -> None:
        nonlocal asked
        queries = VisibilityQueries(engine.pool)
        while not done.is_set():
            with contextlib.suppress(RulesChangedError, DatabaseUnavailableError):
                known = await queries.rules(relid, ROLE)
                assert known is not None
                asked += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(change())
        for _ in range(3):
            group.create_task(ask())
    assert asked > 20
