"""Settings of the deployment's own, from claims that it maps, in each form."""

from __future__ import annotations

import pytest

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.engine import Visibility
from tests.integration.visibility.conftest import ROLE, gateway_pool, settings

NAMES = (*KNOWN_SETTINGS, "app.team", "app.level")
TABLE = """
    CREATE TABLE docs (id int PRIMARY KEY, team text, level int);
    GRANT SELECT ON docs TO ayb_authenticated;
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION my_team() RETURNS text LANGUAGE plpgsql STABLE
        AS $$ BEGIN RETURN lower(current_setting('app.team')); END $$;
    CREATE FUNCTION is_mine(text) RETURNS boolean LANGUAGE plpgsql STABLE
        AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN $1 = current_setting('app.team', true); END $$;
    CREATE FUNCTION is_ours(text) RETURNS boolean LANGUAGE plpgsql STABLE
        AS $$ BEGIN RETURN $1 = current_setting('app.team', true); END $$;
    CREATE FUNCTION remember() RETURNS text LANGUAGE plpgsql STABLE AS $$
    DECLARE team constant text := current_setting('app.team');
    BEGIN
        PERFORM set_config('app.team', 'blue', true), set_config('app.level', '1', true);
        RETURN team;
    END $$;
    INSERT INTO docs VALUES (1, 'red', 1), (2, 'blue', 2), (3, '', 0);
"""
POLICIES = {
    "joined": "team = current_setting('app.team')",
    "joined, optional": "team = nullif(current_setting('App.Team', true), '')",
    "joined, of two": "team = current_setting('app.team')"
    " AND level = nullif(current_setting('app.level'), '')::int",
    "computed": "team = my_team()",
    "given a column": "is_ours(team)",
    "opaque": "is_mine(team)",
    "remembers": "team = (SELECT remember())",
}
UNJOINED = ("opaque",)


@pytest.mark.parametrize("is_joining", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
async def test_a_mapped_setting_is_that_of_each_client(engine, policy, is_joining) -> None:
    """Each sees what a SELECT under its own settings shows, also after another on one session.

    A client without the claim has the empty string, never the value of the client before it.
    """
    await engine.admin.execute(TABLE + f"CREATE POLICY p ON docs USING ({POLICIES[policy]})")
    images = await engine.images("docs")
    members = {
        name: (*settings(user=name), team, level)
        for name, team, level in (
            ("first", "red", "1"), ("second", "blue", "2"), ("third", "", ""), ("last", "red", "1"),
        )
    }  # fmt: skip
    async with gateway_pool(engine.database) as pool:
        engine.visibility = Visibility(
            pool, observer=engine.recorder, is_joining=is_joining, verify_rate=1.0,
            setting_names=NAMES,
        )  # fmt: skip
        for asked in (members, dict(reversed(members.items()))):
            seen = await engine.ask("docs", asked, images)
            found = {name: seen.by(name) for name in members}
            assert not seen.answer.broken
            assert found == {name: await shown(engine, v) for name, v in members.items()}
    assert engine.recorder.differences == 0
    plan = engine.visibility.plan_of(await engine.relid("docs"), ROLE)
    assert (plan.form == "joined") is (is_joining and policy not in UNJOINED)


async def shown(engine, values) -> set[int]:
    """Ask Postgres itself, in a session of its own."""
    async with engine.database.connect() as client, client.transaction():
        for name, value in zip(NAMES, values, strict=True):
            await client.execute("SELECT set_config($1, $2, true)", name, value)
        await client.execute(f"SET LOCAL ROLE {ROLE}")
        rows = await client.fetch("SELECT id FROM docs")
    order = {1: 0, 2: 1, 3: 2}
    return {order[row["id"]] for row in rows}


async def test_values_are_needed_for_every_setting(engine) -> None:
    """A client that lacks the value of a setting is an error of ours, never judged without it."""
    await engine.admin.execute(TABLE + "CREATE POLICY p ON docs USING (true)")
    engine.visibility = Visibility(engine.pool, setting_names=NAMES)
    with pytest.raises(ValueError, match="a value for each setting"):
        await engine.ask("docs", {"a": settings(user="a")}, await engine.images("docs"))
