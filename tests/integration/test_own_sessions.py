"""Sessions that are given back without a reset: only where nothing can be left in them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from gateway.fanout.backlog import Backlog
from gateway.fanout.staleness_watch import StalenessWatch
from gateway.fanout.subscriptions import Subscriptions
from gateway.metrics import GatewayMetrics
from gateway.streams.cursor import cursor_at
from gateway.tables.catalog import Catalog
from gateway.tables.names import parse_tables
from gateway.tables.recent_answers import RecentAnswers
from gateway.tables.roles import Roles
from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import Image, Visibility
from gateway.visibility.queries import Subject, VisibilityQueries
from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from shared.outbox import log_state
from shared.pool import open_pool, own_session
from shared.position import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.databases import Database

TABLE = """
    CREATE TABLE public.posts (id bigint PRIMARY KEY, title text);
    GRANT SELECT ON public.posts TO ayb_authenticated;
    CREATE FUNCTION public.leaves_something() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config('test.left', 'by a policy', false), pg_advisory_lock_shared(4711);
        RETURN true;
    END $$;
    ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY leaving ON public.posts FOR SELECT USING (public.leaves_something());
"""
LEFT = """
    SELECT coalesce(current_setting('test.left', true), '') AS own, (
        SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_settings
        WHERE source = 'session'
    ) AS settings,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
    (SELECT count(*) FROM pg_cursors) AS cursors,
    (SELECT count(*) FROM pg_listening_channels()) AS channels
"""


@asynccontextmanager
async def one_session(database: Database) -> AsyncIterator[asyncpg.Pool]:
    pins = {"default_transaction_read_only": "on", "jit": "off"}
    async with open_pool(
        database.gateway_dsn, application_name="test", most=1, settings=pins
    ) as pool:
        yield pool


async def left(pool: asyncpg.Pool) -> tuple[object, ...]:
    async with own_session(pool) as session:
        return tuple(await session.fetchrow(LEFT))


async def mark(pool: asyncpg.Pool) -> None:
    """Leave something on purpose, which a reset would take away."""
    async with own_session(pool) as session:
        await session.execute("SELECT set_config('test.left', 'on purpose', false)")


async def test_our_own_questions_leave_nothing_and_are_not_followed_by_a_reset(
    database: Database,
) -> None:
    """What is in the session before is there after each of them, and nothing else."""
    await database.execute(TABLE)
    async with database.connect() as relay:
        await Capture(relay, [parse_pattern("public.*")], lock_milliseconds=500).install()
    await database.execute(
        """
        INSERT INTO public.posts VALUES (1, 'one');
        INSERT INTO ayb_realtime.epochs VALUES (1, 1, 1, 1);
        """
    )
    async with one_session(database) as pool:
        metrics = GatewayMetrics()
        backlog = Backlog(pool, most_bytes=1_000, max_record_bytes=1_000, metrics=metrics)
        watch = StalenessWatch(pool, backlog, max_lag_seconds=10.0)
        catalog = Catalog(pool, None, RecentAnswers())
        queries = VisibilityQueries(pool)
        [table] = await catalog.resolve(parse_tables("posts"))
        known = await queries.rules(table.relid, "ayb_authenticated")
        assert known is not None
        subject = Subject(table.relid, "ayb_authenticated", 0, known.fingerprint)
        start = cursor_at(Position(1, 0))
        await mark(pool)
        before = await left(pool)
        assert before[0] == "on purpose"
        for question in (
            backlog.refresh,
            lambda: backlog._read_outbox(0, 5, Subscriptions()),
            lambda: backlog.image_bytes([1]),
            lambda: backlog.whole_images([1]),
            lambda: backlog.read(start, 5, Subscriptions()),
            watch._ask,
            lambda: Catalog(pool, None, RecentAnswers()).resolve(parse_tables("posts")),
            lambda: catalog.readable_tables("ayb_authenticated"),
            lambda: catalog.gone(["public.posts"]),
            catalog._check_outbox,
            lambda: Roles(pool, RecentAnswers()).fault_of("ayb_authenticated"),
            lambda: queries.rules(table.relid, "ayb_authenticated"),
            lambda: queries.catch_up(0),
            queries.builtins,
            lambda: queries.readable_columns(table.relid, "ayb_authenticated"),
            lambda: queries.joined(subject, None),
        ):
            await question()
            assert await left(pool) == before


async def test_a_session_in_which_policies_ran_is_reset(database: Database) -> None:
    """What a policy's function leaves is gone before anybody else's question."""
    await database.execute(TABLE)
    async with one_session(database) as pool:
        clean = await left(pool)
        async with own_session(pool) as session:
            relid = await session.fetchval("SELECT 'public.posts'::regclass::oid")
        visibility = Visibility(pool)
        audience: Audience[str] = Audience("ayb_authenticated")
        audience.add("client", ("u", "", "", ""))
        for _ in range(2):
            await mark(pool)
            image = Image(b'{"id":1,"title":"one"}', 1)
            answer = await visibility.ask(relid, audience, [image], 0)
            assert not answer.is_gone
            assert await left(pool) == clean


PLAIN = """
    CREATE TABLE public.posts (id bigint PRIMARY KEY, title text, author uuid);
    GRANT SELECT ON public.posts TO ayb_authenticated;
    ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON public.posts FOR SELECT
        USING (lower(title) = 'public' OR author = current_setting('ayb.user_id')::uuid);
"""
MINE = "00000000-0000-4000-8000-000000000001"
CHECKED = """
    CREATE FUNCTION public.leaves_something(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config('test.left', 'by a check', false), pg_advisory_lock_shared(4711);
        RETURN true;
    END $$;
    CREATE DOMAIN public.label AS text CHECK (public.leaves_something(VALUE));
    ALTER TABLE public.posts ADD COLUMN label public.label;
"""


async def test_policies_of_builtins_leave_nothing_and_are_not_followed_by_a_reset(
    database: Database,
) -> None:
    """Neither the clients' values nor the question leave anything; other rules are reset again."""
    await database.execute(PLAIN)
    async with one_session(database) as pool:
        clean = await left(pool)
        async with own_session(pool) as session:
            relid = await session.fetchval("SELECT 'public.posts'::regclass::oid")
        visibility = Visibility(pool)
        audience: Audience[str] = Audience("ayb_authenticated")
        audience.add("mine", (MINE, "", "", ""))
        audience.add("other", (MINE[:-1] + "2", "", "", ""))
        audience.add("broken", ("no uuid", "", "", ""))
        image = Image(f'{{"id":1,"title":"one","author":"{MINE}"}}'.encode(), 1)

        async def ask(image: Image = image) -> list[str]:
            answer = await visibility.ask(relid, audience, [image], 0)
            [seen] = answer.visible
            members = answer.grouping.members
            return sorted(c for n in seen for c in members[n])

        await ask()  # the client whose claim is no UUID is asked by itself, and set aside
        audience.discard("broken")
        await mark(pool)
        before = await left(pool)
        assert before[0] == "on purpose"
        for number in range(3, 6):
            assert await ask() == ["mine"]
            # Its value is computed by the next question.
            audience.add(f"other {number}", (MINE[:-1] + str(number), "", "", ""))
            assert await left(pool) == before

        await database.execute(
            "CREATE POLICY other ON public.posts FOR SELECT USING (title = 'other')"
        )
        assert await ask() == ["mine"]
        assert await left(pool) == clean  # what the first try ran was not known

        await mark(pool)
        assert await ask() == ["mine"]
        assert await left(pool) == before
        await database.execute(CHECKED)
        image = Image(f'{{"id":1,"title":"one","author":"{MINE}","label":"x"}}'.encode(), 1)
        await ask(image)
        assert await left(pool) == clean


async def test_after_an_error_a_session_is_reset(database: Database) -> None:
    """Whatever was under way is not known to have left nothing."""
    async with one_session(database) as pool:
        clean = await left(pool)
        await mark(pool)
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with own_session(pool) as session:
                await session.execute("SELECT 1 / 0")
        assert await left(pool) == clean
        async with own_session(pool) as session:
            assert (await log_state(session)).epoch == 0
