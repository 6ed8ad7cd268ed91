"""Both forms against a real SELECT: random tables, policies, claims and rows.

A failure names the seed of its world; `VISIBILITY_SEED=n` makes that world alone, and
`VISIBILITY_WORLDS=n` makes more of them than usual, from seeds that were never tried.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import asyncpg
import pytest

from gateway.visibility.engine import Visibility
from tests.integration.visibility.conftest import Engine, Recorder
from tests.support.worlds import SETUP, TEARDOWN, USERS, Maker, World

WORLDS = int(os.environ.get("VISIBILITY_WORLDS", "400"))
ONLY = os.environ.get("VISIBILITY_SEED")
FIRST = 1 if "VISIBILITY_WORLDS" not in os.environ else random.SystemRandom().randrange(10**9)
ODD_SETTINGS = {
    "TimeZone": "Asia/Kolkata",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "array_nulls": "off",
    "default_transaction_isolation": "repeatable read",
    "plan_cache_mode": "force_generic_plan",
}
"""Of the database, for half of the worlds."""


def seeds() -> list[range]:
    if ONLY is not None:
        return [range(int(ONLY), int(ONLY) + 1)]
    return [
        range(start, min(start + 40, FIRST + WORLDS)) for start in range(FIRST, FIRST + WORLDS, 40)
    ]


@pytest.mark.parametrize("chosen", seeds(), ids=lambda chosen: f"{chosen.start}-{chosen.stop - 1}")
async def test_engine_is_postgres(engine, chosen):
    """Whatever table, policies, claims and rows: both forms see what a SELECT sees."""
    await engine.admin.execute(SETUP)
    if chosen.start // 40 % 2:
        name = await engine.admin.fetchval("SELECT current_database()")
        for setting, value in ODD_SETTINGS.items():
            await engine.admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    engine.visibility = Visibility(engine.pool, observer=engine.recorder, verify_rate=1.0)
    looped = Visibility(engine.pool, is_joining=False)
    made = compared = 0
    try:
        client = await asyncpg.connect(engine.database.dsn, statement_cache_size=0)
        for seed in chosen:
            world = Maker(seed).make()
            if await build(engine, world):
                made += 1
                compared += await compare(engine, client, looped, world)
        await client.close()
        assert engine.recorder.differences == 0
        assert made > len(chosen) // 4
        forms = {form for _, form, _ in engine.recorder.plans}
        print(f"{made} worlds, {compared} pairs, forms {sorted(forms)}")
        if FIRST == 1 and ONLY is None:
            assert "joined" in forms
    finally:
        await engine.admin.execute(TEARDOWN)


async def build(engine: Engine, world: World) -> bool:
    """Make the world's table; some policies do not pass Postgres' own checks."""
    try:
        async with engine.admin.transaction():
            for statement in world.ddl:
                await engine.admin.execute(statement)
            await engine.admin.execute(
                f"CREATE TABLE world_copy AS TABLE {world.table};"
                "GRANT SELECT ON world_copy TO PUBLIC"
            )
    except asyncpg.PostgresError as error:
        if error.sqlstate[:2] not in ("42", "22"):
            raise
        return False
    return True


async def compare(engine, client, looped, world: World) -> int:
    images = await engine.images(world.table)
    rows = [r[0] for r in await engine.admin.fetch(
        f"SELECT nr FROM {world.table} t ORDER BY row_to_json(t)::text")]  # fmt: skip
    joined_seen = await engine.ask(world.table, world.members, images, role=world.role)
    recorder: Recorder = engine.recorder
    form, reason = recorder.plans[-1][1:]
    other = Engine(engine.database, engine.admin, engine.pool, looped, recorder)
    looped_seen = await other.ask(world.table, world.members, images, role=world.role)
    pairs = 0
    for member, values in world.members.items():
        truth = await ask_postgres(client, world, values, rows)
        for name, seen in (("joined", joined_seen), ("looped", looped_seen)):
            ours = {rows[n] for n in seen.by(member)}
            in_doubt = {rows[n] for n in seen.answer.undecidable}
            for row in rows:
                pairs += 1
                context = "\n".join([
                    f"seed {world.seed}: {name} (planned {form}: {reason}), row {row}",
                    f"role {world.role}, settings {values}, truth {truth[row]}",
                    f"broken {seen.answer.broken}, {recorder.failures[-3:]}",
                    *(statement for statement in world.ddl if "INSERT" not in statement),
                ])  # fmt: skip
                if row in in_doubt:
                    assert row not in ours, context
                elif truth[row] == "error":
                    if row in ours:
                        assert await evaluate(client, world, values, row) is True, context
                    elif member not in seen.broken():
                        assert await evaluate(client, world, values, row) is not True, context
                elif (row in ours) != truth[row]:
                    # The planner may drop what raises: (a AND raises) OR a. We deny, and say so.
                    assert truth[row] is True, context
                    assert member in seen.broken(), context
                    assert await evaluate(client, world, values, row) == "error", context
    await engine.admin.execute(f"DROP TABLE {world.table}, world_copy")
    return pairs


async def ask_postgres(client, world: World, values, rows) -> dict[int, bool | str]:
    """Ask with a real SELECT under the role and its settings, row by row if need be."""
    truth: dict[int, bool | str] = {}
    async with client.transaction():
        await become(client, world.role, values)
        try:
            async with client.transaction():
                seen = {r[0] for r in await client.fetch(f"SELECT nr FROM {world.table}")}
            return {row: row in seen for row in rows}
        except asyncpg.PostgresError:
            for row in rows:
                try:
                    async with client.transaction():
                        found = await client.fetch(f"SELECT nr FROM {world.table} WHERE nr = {row}")
                    truth[row] = bool(found)
                except asyncpg.PostgresError:
                    truth[row] = "error"
    return truth


async def become(client, role: str, values) -> None:
    await client.execute(f"SET LOCAL ROLE {role}")
    await client.fetch(
        "SELECT set_config('ayb.user_id', $1, true), set_config('ayb.user_email', $2, true), "
        "set_config('ayb.tenant_id', $3, true), set_config('request.jwt.claims', $4, true)",
        *values,
    )


async def evaluate(client, world: World, values, row: int) -> Any:
    """Evaluate the policies' expression for a row by itself.

    Postgres may raise for a row just by planning, in its estimates for another arm of an OR; so it
    plans under settings that are good for everything.
    """
    claims = json.dumps({"sub": USERS[0], "tenant": 1})
    fine = (USERS[0], "a@example.com", "1", claims)
    async with client.transaction():
        await client.execute(
            "SET LOCAL plan_cache_mode = force_generic_plan; "
            f"PREPARE evaluated (int) AS SELECT coalesce({world.condition()}, false) "
            f"FROM world_copy AS {world.name} WHERE nr = $1"
        )
        try:
            for settings in (fine, values):
                try:
                    async with client.transaction():
                        await become(client, world.role, settings)
                        found = await client.fetchval(f"EXECUTE evaluated ({row})")
                except asyncpg.PostgresError:
                    found = "error"
        finally:
            await client.execute("DEALLOCATE evaluated")
    return found
