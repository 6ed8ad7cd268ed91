"""The relay fails under load: each client gets every change it may see, once and in order."""

from __future__ import annotations

from tests.support.arena import Arena
from tests.support.arena_fixtures import RELAY, OpenArena
from tests.support.proxy import Proxy
from tests.support.waits import gateway_says, leads


async def test_killed_in_mid_batch(arena: Arena):
    """A relay that is killed within its batches continues where it was."""
    async with arena.load():
        for _ in range(3):
            await arena.stack.kill("relay")
            await arena.written(500)
            await arena.stack.start("relay")
            await arena.written(500)
    await arena.settle()


async def test_killed_in_the_middle_of_a_cut_burst(open_arena: OpenArena):
    """A transaction cut into many batches is delivered once, although the relay is killed twice on
    the way.
    """
    arena = await open_arena(relay={"AYB_REALTIME_BATCH_CHANGES": "10"})
    async with arena.load():
        for _ in range(2):
            await arena.stack.kill("relay")
            await arena.written(1_000)
            await arena.stack.start("relay")
            await arena.written(100)
    await arena.settle()


async def test_restarted(arena: Arena):
    """An orderly restart of the relay loses nothing."""
    async with arena.load():
        await arena.stack.restart("relay")
    await arena.settle()


async def test_frozen(arena: Arena):
    """A relay that is frozen for seconds continues; meanwhile the gateways poll."""
    async with arena.load(pause=0.3):
        arena.stack.pause("relay")
        await gateway_says(arena.stack, "polling", part="bus")
        arena.stack.resume("relay")
        await gateway_says(arena.stack, "ok", part="bus")
    await arena.settle()


async def test_standby_takes_over(arena: Arena, start_stack):
    """A standby takes over within seconds after the leader was killed, without a repetition."""
    second = await start_stack(relay=RELAY, start=False)
    await second.start("relay")
    async with arena.load():
        await arena.stack.kill("relay")
        await leads(second.url("relay"))
    await arena.settle()


async def test_frozen_leader_comes_back_beside_its_successor(arena: Arena, start_stack):
    """A leader that resumes after its session was ended does not write beside its successor."""
    second = await start_stack(relay=RELAY, start=False)
    await second.start("relay")
    async with arena.load():
        arena.stack.pause("relay")
        await arena.stack.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'ayb-relay' AND pid IN "
            "(SELECT pid FROM ayb_realtime.leader)"
        )
        await leads(second.url("relay"))
        arena.stack.resume("relay")
        await arena.written(1_000)
    await arena.settle()


async def test_deaf(open_arena: OpenArena, start_stack):
    """Changes are found although the LISTEN connection drops every notification."""
    arena = await open_arena()
    async with Proxy(arena.stack.postgres.port, matching=b"ayb-relay listen") as proxy:
        await arena.stack.stop("relay")
        arena.stack.set("relay", AYB_DATABASE_URL=proxy.lead(arena.stack.database.relay_dsn))
        await arena.stack.start("relay")
        async with arena.load(pause=0.2):
            proxy.discard()
            await arena.written(3_000)
        await arena.settle()
        # Now that the relay sleeps, it takes its own reading to find a change.
        await arena.settle()
        assert proxy.discarded
        await arena.stack.stop("relay")


async def test_record_fails_as_on_a_full_disk(arena: Arena):
    """While Postgres cannot write the log, for lack of space or because of a lock, the relay keeps
    trying, and then continues without a gap.
    """
    async with arena.load():
        await arena.stack.sql(FULL)
        await arena.written(2_000)
        await arena.stack.sql(SPACE)
    await arena.settle()
    assert "no space left" in arena.stack.log("relay")


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'could not extend file: no space left on device' USING
        ERRCODE = (ARRAY['53100', '40P01', '40001', '55P03'])[1 + floor(4 * random())];
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON ayb_realtime.batches
    FOR EACH ROW EXECUTE FUNCTION full_disk();
"""
SPACE = """
CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN new;
END $$;
"""
"""Dropping the trigger would lock the table, and may end in a deadlock with the relay."""
