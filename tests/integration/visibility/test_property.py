"""All forms against real SELECTs: random tables, policies, functions, claims, settings and rows.

Each world is a table that Postgres judges twice. `World.frozen` is a second table with the same
rows and policies on which nothing happens afterwards: a SELECT on it is what the rules of now say
of the rows as they were in the events. The other one is changed after the events, and the engine is
asked about the images of before. So the truth for every pair of a client and an image is

* what a SELECT on the frozen table shows, unless the table is opaque;
* for an opaque table, what a SELECT on the changed table shows of rows that are still as they were;
  an image of a row that has changed since is withheld (it is superseded). The same goes for a
  client that is asked by SELECT, since its policies call functions that find no names otherwise.

In either case nobody is shown an image by a function that looks at the row of now: an image of a
changed row is seen only by those who could see it before the change.

A failure names the seed of its world; `VISIBILITY_SEED=n` makes that world alone, and
`VISIBILITY_WORLDS=n` makes so many of them, from seeds that were never tried.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from gateway.visibility.engine import Image, Visibility
from gateway.visibility.joined import candidates, joined_form
from shared.errors import DatabaseUnavailableError
from tests.integration.visibility.conftest import Engine, Recorder, Seen, gateway_pool
from tests.support.world_columns import EXTENSIONS, USERS
from tests.support.worlds import SETUP, TEARDOWN, Maker, World

CHUNK = 40
WORLDS = int(
    os.environ.get("VISIBILITY_WORLDS")
    or ("400" if "AYB_TEST_POSTGRES" not in os.environ else "120")
)
ONLY = os.environ.get("VISIBILITY_SEED")
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or os.urandom(16).hex()
"""Of the whole run: the processes that share it try the same seeds."""
FIRST = (
    1 if "VISIBILITY_WORLDS" not in os.environ else 1 + CHUNK * random.Random(RUN).randrange(10**7)
)

ODD_SETTINGS = {
    "TimeZone": "'Asia/Kolkata'",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "'iso_8601'",
    "extra_float_digits": "0",
    "bytea_output": "'escape'",
    "array_nulls": "off",
    "row_security": "off",
    "default_transaction_isolation": "'repeatable read'",
    "plan_cache_mode": "force_generic_plan",
    "search_path": '"odd schema", public',
    "statement_timeout": "'500ms'",
}
OTHER_SETTINGS = {
    "TimeZone": "'America/St_Johns'",
    "DateStyle": "'SQL, MDY'",
    "IntervalStyle": "'sql_standard'",
    "extra_float_digits": "-15",
    "xmloption": "document",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "default_transaction_isolation": "'serializable'",
    "default_transaction_deferrable": "on",
    "default_transaction_read_only": "on",
    "lock_timeout": "'500ms'",
    "search_path": 'auth, "odd schema", public',
}
"""Settings of the database for a third of the worlds, of the gateway's role for another third."""

CASTING = ("is_member", "has_level")
"""Functions of the row that may cast a claim."""

IN_DOUBT = 0.06
"""Images that cannot be judged, at most this share."""
WITHHELD = 0.18
"""Pairs that a form that looks at rows of now does not answer, at most this share."""


@dataclass
class Truth:
    """What SELECTs of one client show: True, False, or "error" for each row."""

    before: dict[int, bool | str]
    frozen: dict[int, bool | str]
    now: dict[int, bool | str]


def seeds() -> list[range]:
    if ONLY is not None:
        return [range(int(ONLY), int(ONLY) + 1)]
    return [
        range(start, min(start + CHUNK, FIRST + WORLDS))
        for start in range(FIRST, FIRST + WORLDS, CHUNK)
    ]


@pytest.mark.parametrize("chosen", seeds(), ids=lambda chosen: f"{chosen.start}-{chosen.stop - 1}")
async def test_engine_is_postgres(engine, chosen, monkeypatch):
    """Whatever table, policies, functions, claims, settings and rows: a client is shown what its
    SELECT shows.
    """
    # The worlds are too small for it to pay.
    monkeypatch.setattr(candidates, "FEWEST_GROUPS", 0)
    monkeypatch.setattr(candidates, "MOST_CANDIDATES", 1)
    if (chosen.start - 1) // CHUNK % 2:
        # The statement for many cohorts, about these few.
        monkeypatch.setattr(joined_form, "FEWEST_GROUPS", 0)
    await engine.admin.execute(SETUP)
    extensions = await add_extensions(engine.admin)
    await set_defaults(engine.admin, (chosen.start - 1) // CHUNK % 3)
    counts: Counter[str] = Counter()
    async with (
        gateway_pool(engine.database) as pool,
        connected(engine.database.gateway_dsn) as client,
    ):
        await client.execute(
            "SET row_security = on; SET statement_timeout = 0; SET lock_timeout = 0;"
            "SET default_transaction_read_only = off; SET default_transaction_deferrable = off"
        )
        await engine.admin.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY'")
        engine.pool = pool
        engine.visibility = Visibility(pool, observer=engine.recorder, verify_rate=1.0)
        recorder = Recorder()
        looped = Engine(
            engine.database, engine.admin, pool,
            Visibility(pool, observer=recorder, is_joining=False), recorder,
        )  # fmt: skip
        try:
            for seed in chosen:
                world = Maker(seed, extensions).make()
                if await build(engine, world):
                    counts["worlds"] += 1
                    await compare(engine, looped, client, world, counts)
        finally:
            await engine.admin.execute(TEARDOWN)
    assert engine.recorder.differences == 0
    print(f"\nseeds {chosen.start} to {chosen.stop - 1}: {dict(counts)}")
    if len(chosen) == CHUNK:
        assert counts["worlds"] > CHUNK / 2
        assert counts["pairs"] > 250 * CHUNK
        assert counts["in doubt"] < IN_DOUBT * counts["pairs"]
        assert counts["withheld"] < WITHHELD * counts["pairs"]
        assert counts["joined"] > CHUNK / 8
        assert counts["opaque"] > 0


@contextlib.asynccontextmanager
async def connected(dsn: str):
    """Connect without cached plans: functions that are declared IMMUTABLE may have been folded."""
    client = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        yield client
    finally:
        await client.close()


async def add_extensions(admin) -> frozenset[str]:
    """Create the extensions whose types are tried, as far as the server has them."""
    rows = await admin.fetch(
        "SELECT name FROM pg_available_extensions WHERE name = ANY ($1)", list(EXTENSIONS)
    )
    for row in rows:
        await admin.execute(f"CREATE EXTENSION {row['name']} SCHEMA public")
    return frozenset(row["name"] for row in rows)


async def set_defaults(admin, which: int) -> None:
    """Give the database, or the gateway's role in it, odd settings."""
    name = await admin.fetchval("SELECT current_database()")
    target, settings = {
        0: ("", {}),
        1: (f"DATABASE {name}", ODD_SETTINGS),
        2: (f"ROLE ayb_gateway IN DATABASE {name}", OTHER_SETTINGS),
    }[which]
    for setting, value in settings.items():
        await admin.execute(f"ALTER {target} SET {setting} = {value}")


async def build(engine: Engine, world: World) -> bool:
    """Make the world's tables; some policies do not pass Postgres' own checks."""
    try:
        async with engine.admin.transaction():
            for statement in (*world.ddl, *world.functions, *world.security):
                await engine.admin.execute(statement)
            for statement in world.of(world.frozen):
                await engine.admin.execute(statement)
            await engine.admin.execute(
                f"CREATE TABLE world_copy AS SELECT * FROM {world.source};"
                "GRANT SELECT ON world_copy TO PUBLIC"
            )
    except asyncpg.PostgresError as error:
        if error.sqlstate[:2] not in ("42", "22"):
            raise
        return False
    return True


async def compare(engine: Engine, looped: Engine, client, world: World, counts) -> None:
    """Ask the engine in its own choice of form and without joining; compare each pair."""
    image_of = await images_of(engine.admin, world)
    rows = sorted(image_of)
    images = [Image(image_of[row].encode()) for row in rows]
    before = {m: await ask_postgres(client, world, world.source, s, rows)
              for m, s in world.members.items()}  # fmt: skip
    async with happening(engine.admin, world):
        images_now = await images_of(engine.admin, world)
        relid = await engine.relid(world.table)
        is_whole = await engine.admin.fetchval(
            "SELECT has_table_privilege($1, $2::oid, 'SELECT')", world.role, relid
        )
        kept = {row for row in images_now if not is_whole or images_now[row] == image_of.get(row)}
        answers = {}
        for name, asked in (("own choice", engine), ("not joined", looped)):
            asked.recorder.questions.clear()
            seen = await ask_again(asked, relid, world, images)
            plan = asked.visibility.plan_of(relid, world.role)
            assert plan is not None
            answers[name] = (seen, plan, "opaque" in asked.recorder.questions)
        if world.capture:
            await engine.admin.execute(world.capture[1])
        chosen = answers["own choice"][1]
        counts[str(chosen.form)] += 1
        counts["candidates"] += bool(chosen.demands)
        for member, values in world.members.items():
            truth = Truth(
                before[member],
                await ask_postgres(client, world, world.frozen_source, values, rows),
                await ask_postgres(client, world, world.source, values, rows),
            )
            for name, (seen, plan, has_selected) in answers.items():
                await compare_member(
                    client, world, member, rows, truth, seen, plan, kept, counts, name,
                    has_selected=has_selected,
                )  # fmt: skip
    await engine.admin.execute(f"DROP TABLE {world.table}, {world.frozen}, world_copy CASCADE")


async def ask_again(asked: Engine, relid: int, world: World, images: list[Image]) -> Seen:
    """Ask as the gateway does: errors of classes that belong to the server (PostGIS raises these)
    count against a client only after some tries.
    """
    for _ in range(5):
        with contextlib.suppress(DatabaseUnavailableError):
            return await asked.ask(relid, world.members, images, role=world.role)
    return await asked.ask(relid, world.members, images, role=world.role)


async def images_of(admin, world: World) -> dict[int, str]:
    """Read the images of the rows of now, by key; of a row that cannot be written there is none."""
    found = await admin.fetch(f"SELECT nr, world_image(t) AS image FROM {world.source} t")
    return {record["nr"]: record["image"] for record in found if record["image"] is not None}


@contextlib.asynccontextmanager
async def happening(admin, world: World):
    """Let happen what happens after the events; undo what outlives the world."""
    for statement in world.since:
        with contextlib.suppress(asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
            await admin.execute(statement)
    if world.renames:
        await admin.execute("ALTER TYPE state RENAME VALUE 'draft' TO 'drafted'")
    if world.capture:
        await admin.execute(world.capture[0])
    yield
    if world.renames:
        await admin.execute("ALTER TYPE state RENAME VALUE 'drafted' TO 'draft'")
    await admin.execute(
        "TRUNCATE members, secured; INSERT INTO members SELECT * FROM members_kept;"
        "INSERT INTO secured SELECT * FROM secured_kept"
    )


async def compare_member(
    client, world: World, member, rows, truth: Truth, seen: Seen, plan, kept, counts, name,
    *, has_selected: bool,
) -> None:  # fmt: skip
    """Compare what one client is shown with what its SELECTs show.

    `has_selected` tells that some clients were asked by SELECT.
    """
    values = world.members[member]
    ours = {rows[n] for n in seen.by(member)}
    in_doubt = {rows[n] for n in seen.answer.undecidable}
    is_broken = member in seen.broken()
    is_opaque = str(plan.form) == "opaque"
    for row in rows:
        counts["pairs"] += 1
        expected = truth.now.get(row, False) if is_opaque else truth.frozen[row]
        context = "\n".join([
            f"seed {world.seed}: {name} (planned {plan.form}: {plan.reason}), row {row}",
            f"role {world.role}, settings {values}",
            f"truth {expected}, {truth}, {'kept' if row in kept else 'changed'}",
            f"broken {seen.answer.broken}, undecidable {in_doubt}",
            *(s for s in (*world.ddl, *world.functions, *world.security) if "INSERT" not in s),
            *world.since, str(world.renames), str(world.capture),
        ])  # fmt: skip
        if row in ours and row not in kept and world.functions and expected != "error":
            assert truth.before[row] is True, context
        if row in in_doubt:
            counts["in doubt"] += 1
            assert row not in ours, context
        elif is_opaque and row not in kept:
            counts["withheld"] += 1
            assert row not in ours, context
        elif has_selected and is_by_select(row, expected, truth, ours, kept):
            counts["withheld"] += row not in ours
        elif expected == "error":
            counts["raises"] += 1
            if row in ours:
                assert await evaluate(client, world, values, row) is True, context
            elif not is_broken:
                assert await evaluate(client, world, values, row) is not True, context
        elif (row in ours) != expected:
            # The planner may drop what raises: (a AND raises) OR a. We deny, and say so.
            assert expected is True, context
            assert is_broken, context
            # A function's own plan may raise by its estimates, after some calls.
            may_fail = is_opaque or any(name in world.condition() for name in CASTING)
            if is_opaque or await evaluate(client, world, values, row) != "error":
                assert may_fail, context
                assert await fails_by_key(client, world, values, rows), context


def is_by_select(row: int, expected: bool | str, truth: Truth, ours, kept) -> bool:
    """Whether an answer that a SELECT on the frozen table does not give is that of one on the rows
    of now. Of a row that the role reads in part, what it reads may be kept while others change.
    """
    is_shown = row in kept and truth.now[row] is True
    return expected is not (row in ours) and is_shown is (row in ours)


async def ask_postgres(client, world: World, source, values, rows) -> dict[int, bool | str]:
    """Ask with a real SELECT under the role and its settings, row by row if need be."""
    truth: dict[int, bool | str] = {}
    async with client.transaction(isolation="read_committed"):
        await become(client, world.role, values)
        try:
            async with client.transaction():
                seen = {r[0] for r in await client.fetch(f"SELECT nr FROM {source}")}
            return {row: row in seen for row in rows}
        except asyncpg.PostgresError:
            for row in rows:
                try:
                    async with client.transaction():
                        found = await client.fetch(f"SELECT nr FROM {source} WHERE nr = {row}")
                    truth[row] = bool(found)
                except asyncpg.PostgresError:
                    truth[row] = "error"
    return truth


async def fails_by_key(client, world: World, values, rows) -> bool:
    """Whether a SELECT by key raises: Postgres may raise by its estimates alone.

    It does so when it plans, also the body of a function: a session that has kept such a plan from
    other settings (from Postgres 18 on, those of LANGUAGE sql as well) does not raise.
    """
    async with client.transaction(isolation="read_committed"):
        await become(client, world.role, values)
        for row in rows:
            try:
                async with client.transaction():
                    await client.execute("DISCARD PLANS")
                    await client.fetch(f"SELECT nr FROM {world.source} WHERE nr = {row}")
            except asyncpg.PostgresError:
                return True
    return False


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
    plans under settings that are good for everything. A function that is declared IMMUTABLE would
    be folded under those, so an honest one takes its place; and so it does for functions that set
    the search path, after which it depends on Postgres' order of evaluation what others find.
    """
    condition = world.condition()
    for name in ("folded_uid", "remembered_uid", "restored_uid"):
        condition = condition.replace(f"{name}()", "hidden_uid()")
    claims = json.dumps({"sub": USERS[0], "tenant": 1})
    fine = (USERS[0], "a@example.com", "1", claims)
    async with client.transaction(isolation="read_committed"):
        await client.execute(
            "SET LOCAL plan_cache_mode = force_generic_plan; "
            f"PREPARE evaluated (int) AS SELECT coalesce({condition}, false) "
            f"FROM public.world_copy AS {world.name} WHERE nr = $1"
        )
        try:
            for settings in (fine, values):
                alone = client.transaction()
                await alone.start()
                try:
                    await become(client, world.role, settings)
                    found = await client.fetchval(f"EXECUTE evaluated ({row})")
                except asyncpg.PostgresError:
                    found = "error"
                await alone.rollback()  # functions may have made settings
        finally:
            await client.execute("DEALLOCATE evaluated")
    return found
