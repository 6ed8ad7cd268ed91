"""What Postgres looks up while it plans: a loop is planned by another search path than a SELECT."""

from __future__ import annotations

import pytest

from gateway.visibility.engine import Visibility
from tests.integration.visibility.conftest import ROLE, settings
from tests.integration.visibility.test_given_functions import (
    BOOL,
    MEMBERS,
    TABLE,
    plan_of,
    selected,
)

OVERLOAD = """
    CREATE FUNCTION public.length(varchar) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
"""
BOUND_LATE = {
    "an operator of an extension": (
        """CREATE EXTENSION citext SCHEMA public; ALTER TABLE docs ADD a citext, ADD b citext;
        UPDATE docs SET a = 'Bob', b = CASE WHEN id = 1 THEN 'x' ELSE 'bob' END;
        CREATE FUNCTION differ(citext, citext) RETURNS boolean LANGUAGE sql STABLE
            AS $$ SELECT $1 <> $2 $$;""",
        "differ(a, b)"),
    "a function that fits better": (
        f"""{OVERLOAD} CREATE FUNCTION has_text(varchar) {BOOL}
            AS $$ SELECT length($1) > 0 $$;""",
        "has_text(body)"),
    "a function that another one calls": (
        f"""{OVERLOAD} CREATE FUNCTION has_text(varchar) {BOOL} AS $$ SELECT length($1) > 0 $$;
        CREATE FUNCTION is_fine(text) {BOOL} RETURN has_text($1);""",
        "is_fine(body)"),
    "a constant": (
        f"""{OVERLOAD} CREATE FUNCTION has_text(varchar) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN RETURN length($1) > 0; END $$;""",
        "has_text('x') AND id > 0"),
    "a date in a body": (
        f"""ALTER TABLE docs ADD day date; UPDATE docs SET day = '2026-01-15';
        CREATE FUNCTION is_late(date) {BOOL} AS $$ SELECT $1 > '02/01/2026'::date $$;""",
        "is_late(day)"),
    "a date of a constant function": (
        """ALTER TABLE docs ADD day date; UPDATE docs SET day = '2026-01-15';
        CREATE FUNCTION due() RETURNS date LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN RETURN '01/02/2026'::date; END $$;""",
        "day > due()"),
    "a date of a function with its own search path": (
        """ALTER TABLE docs ADD day date; UPDATE docs SET day = '2026-01-15';
        CREATE FUNCTION due() RETURNS date LANGUAGE plpgsql IMMUTABLE SET search_path = public
            AS $$ BEGIN RETURN '01/02/2026'::date; END $$;""",
        "day > due()"),
}  # fmt: skip


@pytest.mark.parametrize("is_joining", [True, False])
@pytest.mark.parametrize("case", BOUND_LATE)
async def test_a_body_means_what_it_means_in_a_select(engine, case, is_joining):
    """Names and dates in the body of a function are read by the session's own settings."""
    functions, policy = BOUND_LATE[case]
    await engine.admin.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET datestyle = ''ISO, DMY''', "
        "current_database()); END $$"
    )
    await engine.admin.execute(f"{TABLE} {functions} CREATE POLICY p ON docs USING ({policy})")
    await engine.pool.expire_connections()
    engine.visibility = Visibility(engine.pool, observer=engine.recorder, is_joining=is_joining)
    seen = await engine.ask("docs", MEMBERS, await engine.images("docs"))
    assert not seen.answer.broken
    for member in MEMBERS:
        assert seen.by(member) == await selected(engine, member), member


@pytest.mark.parametrize("key", ["", "ALTER TABLE docs DROP CONSTRAINT docs_pkey;"])
async def test_a_client_that_a_join_leaves_out_is_asked_by_a_select(engine, key):
    """One whose claim does not cast sees what its SELECT shows, not what a loop would."""
    await engine.admin.execute(
        f"""{TABLE} {OVERLOAD} {key}
        CREATE FUNCTION has_text(varchar) {BOOL} AS $$ SELECT length($1) > 0 $$;
        CREATE POLICY p ON docs USING (CASE WHEN has_text(current_setting('ayb.user_id')::varchar)
            THEN true ELSE id > current_setting('ayb.tenant_id')::int END)"""
    )
    members = {"casts": settings(user="a", tenant="2"), "does not": settings(user="a", tenant="x")}
    seen = await engine.ask("docs", members, await engine.images("docs"))
    assert (await plan_of(engine)).form == "joined"
    assert seen.by("casts") == {2, 3}
    assert seen.by("does not") == set()
    assert seen.broken() == {"does not"}
    assert ("primary key" in str(seen.answer.broken)) is bool(key)


async def test_what_computes_from_settings_alone_is_asked_in_a_loop(engine):
    """A body of settings and casts means the same by any search path."""
    await engine.admin.execute(f"{TABLE} CREATE POLICY p ON docs USING (owner = me())")
    engine.visibility = Visibility(engine.pool, observer=engine.recorder, is_joining=False)
    seen = await engine.ask("docs", MEMBERS, await engine.images("docs"))
    assert seen.by("a") == {0}
    assert engine.visibility.plan_of(await engine.relid("docs"), ROLE).form == "looped"
