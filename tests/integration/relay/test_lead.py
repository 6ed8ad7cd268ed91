"""One active relay, a standby, and simultaneous starts."""

from __future__ import annotations

import asyncio
import json
import signal

import msgspec
import pytest

from relay.app import Relay
from relay.health import Health
from relay.metrics import RelayMetrics
from relay.outbox.epoch import ensure_epoch
from relay.outbox.reader import Outbox
from relay.outbox.remainder import BatchLimits
from relay.rivals import Announcement
from relay.schema.migrate import migrate, missing_scripts
from relay.session.leader import Leadership
from shared import signature
from shared.channels import Channels
from shared.errors import DatabaseUnavailableError, SchemaError
from shared.redis import redis_client
from shared.sql import Script, functions, migrations
from tests.integration.relay.conftest import Relays, eventually, is_leading
from tests.support.bus import history_of
from tests.support.proxy import Proxy
from tests.support.schema import SCHEMA


async def test_standby_takes_over(database, relays, ear):
    """Of two relays one publishes; when it is killed the other continues, without a hole in the
    numbers.
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.process() as first:
        await ear.ticked()
        async with relays.process() as second:
            for number in range(200):
                await database.execute("INSERT INTO t VALUES ($1)", number)
                if number == 100:
                    first.send_signal(signal.SIGKILL)
                    await first.wait()
            await ear.until(lambda: len({(h.batch, h.change.index) for h in ear.heard}) == 200)
            assert second.returncode is None
    told = {(h.batch, h.change.index): json.loads(h.new or "")["id"] for h in ear.heard}
    assert [told[place] for place in sorted(told)] == list(range(200))
    batches = sorted({batch for batch, _ in told})
    assert batches == list(range(batches[0], batches[-1] + 1))


async def test_standby_takes_over_from_a_leader_that_vanished(
    postgres_server, valkey_server, database, relays, ear
):
    """A leader vanishes with its answers under way, and its connections stay open at the server:
    the standby says how long it has been silent, ends its session and leads within 20 seconds.
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with Proxy(postgres_server.port, matching=b"ayb-relay") as proxy:
        leader = Relays(proxy.lead(database.relay_dsn), valkey_server.url)
        async with leader.process() as first:
            await ear.ticked()
            await database.execute("INSERT INTO t VALUES (1)")
            await ear.changes(1)
            health = Health(RelayMetrics())
            standby = Relay(relays.settings(), health=health, metrics=RelayMetrics())
            async with asyncio.TaskGroup() as group:
                task = group.create_task(standby.run())
                await eventually(lambda: "last heard of" in health.page[1])
                proxy.discard()
                await database.execute("INSERT INTO t VALUES (2)")
                first.kill()
                await first.wait()
                async with asyncio.timeout(20):
                    await ear.until(lambda: ear.heard[-1].new == '{"id":2}')
                assert health.page == (200, "ok\n")
                task.cancel()


async def test_standby_takes_over_from_a_frozen_leader(database, relays, ear):
    """A leader that is frozen keeps its connections open: a standby ends its session and leads."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.process() as first:
        await ear.ticked()
        async with relays.process():
            first.send_signal(signal.SIGSTOP)
            await database.execute("INSERT INTO t VALUES (1)")
            async with asyncio.timeout(20):
                await ear.changes(1)


async def test_standby_takes_over_while_a_reply_is_under_way(
    postgres_server, valkey_server, database, relays, ear
):
    """A leader freezes in the middle of a reply: its session is at work, and so is left alone,
    until its peer has accepted nothing for 15 seconds (tcp_user_timeout).
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    async with Proxy(postgres_server.port, matching=b"ayb-relay") as proxy:
        leader = Relays(proxy.lead(database.relay_dsn), valkey_server.url)
        async with leader.process(AYB_REALTIME_BATCH_BYTES="100000000") as first:
            await ear.ticked()
            proxy.bytes_a_second = 50_000.0
            await database.execute(
                "INSERT INTO t SELECT n, repeat(md5(n::text), 28000) FROM generate_series(1, 60) n"
            )
            async with database.connect() as session:
                while not await session.fetchval(STUCK):
                    await session.execute("SELECT pg_sleep(0.05)")
            proxy.bytes_a_second = 1.0  # nothing more for hours
            first.send_signal(signal.SIGSTOP)
            async with relays.process():
                await ear.until(lambda: len({(h.batch, h.change.index) for h in ear.heard}) == 60)


STUCK = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE application_name = 'ayb-relay' AND wait_event = 'ClientWrite'
    )
"""


async def test_silent_leader_at_work_is_left_alone(database, relays, monkeypatch):
    """A session that works for long is not ended, however silent."""
    monkeypatch.setattr("relay.session.leader.SILENT_SECONDS", 0.2)
    async with database.connect(relays.dsn) as leader, database.connect(relays.dsn) as other:
        await Leadership(leader).wait(lambda _: None, asyncio.Event())
        waiting = asyncio.create_task(Leadership(other).wait(lambda _: None, asyncio.Event()))
        assert await leader.fetchval("SELECT true FROM pg_sleep(2)")
        assert not waiting.done()
        await waiting
        assert leader.is_closed()


async def test_the_servers_clock_is_set_back(database, relays, monkeypatch):
    """A leader that renews its lead keeps it, and one that is silent loses it, though its last
    renewal seems to lie in the future.
    """
    monkeypatch.setattr("relay.session.leader.SILENT_SECONDS", 1.5)
    monkeypatch.setattr("relay.session.leader.HEARTBEAT_SECONDS", 0.0)
    set_back = "UPDATE ayb_realtime.leader SET heard_at = heard_at + interval '1 hour'"
    async with database.connect(relays.dsn) as leader, database.connect(relays.dsn) as other:
        leadership = Leadership(leader)
        await leadership.wait(lambda _: None, asyncio.Event())
        await other.execute(set_back)
        await asyncio.sleep(2)
        notes: list[str | None] = []
        waiting = asyncio.create_task(Leadership(other).wait(notes.append, asyncio.Event()))
        while len(notes) < 5:
            await asyncio.sleep(0.05)
            await leadership.hold()
        assert not waiting.done()
        await database.execute(set_back)
        await waiting
        assert not any("last heard of -" in note for note in notes if note is not None)


async def test_a_session_that_got_the_leaders_pid(database, relays, ear):
    """A session of a superuser, whose start the relay may not see, has the process number of a
    leader that ended: it does not keep the lead from the relays.
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with database.connect() as stranger:
        pid = await stranger.fetchval("SELECT pg_backend_pid()")
        for login in ("ayb_relay", "postgres"):
            await database.execute(
                "UPDATE ayb_realtime.leader SET pid = $1, began = now() - interval '1 day', "
                "login = $2::regrole, heard_at = now() - interval '1 day'",
                pid,
                login,
            )
            async with relays.running():
                await ear.ticked()
            assert await stranger.fetchval("SELECT true")


async def test_hidden_leader_is_left_alone_while_it_renews(database, relays):
    """Where a relay may not see when the leader's session began, it leads for as long as it renews
    the lead; a leader that was displaced records nothing more.
    """
    async with database.connect() as owner, database.connect(relays.dsn) as other:
        await ensure_epoch(owner)
        leader = Leadership(owner)
        await leader.wait(lambda _: None, asyncio.Event())
        outbox = await Outbox.open(
            owner, epoch=1, limits=BatchLimits(10, 1000, 1000), metrics=RelayMetrics()
        )
        assert not await other.fetchval(TAKE)
        await owner.execute("UPDATE ayb_realtime.leader SET heard_at = now() - interval '1 hour'")
        assert await other.fetchval(TAKE)
        await owner.execute(
            "CREATE TABLE t (id int PRIMARY KEY); "
            "INSERT INTO ayb_realtime.changes (relid, op, new) "
            "VALUES ('t'::regclass, 'I', '{\"id\":1}')"
        )
        before = await owner.fetch("SELECT * FROM ayb_realtime.horizon")
        for record in (outbox.next_batch, outbox.skip_number):
            with pytest.raises(DatabaseUnavailableError, match="the lead has been lost"):
                await record()
        assert await owner.fetchval("SELECT count(*) FROM ayb_realtime.batches") == 1
        assert await owner.fetch("SELECT * FROM ayb_realtime.horizon") == before


TAKE = "SELECT ayb_realtime.take_lead('other', 'other', '15 s', '2 s')"


async def test_stopped_leader_hands_over(database, relays, ear, monkeypatch):
    """A leader that is asked to end wakes a standby, which leads without having to ask again."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.process() as first:
        await ear.ticked()
        monkeypatch.setattr("relay.session.leader.STANDBY_SECONDS", 3600.0)
        health, metrics = Health(RelayMetrics()), RelayMetrics()
        standby = Relay(relays.settings(), health=health, metrics=metrics)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(standby.run())
            await eventually(lambda: "standing by" in health.page[1])
            await database.execute("INSERT INTO t VALUES (1)")
            first.terminate()
            await eventually(lambda: is_leading(metrics))
            await database.execute("INSERT INTO t VALUES (2)")
            await ear.until(lambda: len(ear.heard) and ear.heard[-1].new == '{"id":2}')
            task.cancel()
    assert len({heard.batch for heard in ear.heard}) == 2


async def test_stopped_leader_hands_over_although_it_has_done_so_before(
    database, relays, monkeypatch
):
    """A relay that handed the lead over and got it back hands it over again when it ends."""
    monkeypatch.setattr("relay.session.patience.FIRST_SECONDS", 0.5)
    metrics = RelayMetrics()
    relay = Relay(relays.settings(), health=Health(metrics), metrics=metrics)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(relay.run())
        await eventually(lambda: is_leading(metrics))
        async with relays.running(relay_priority=1):
            assert not is_leading(metrics)
        await eventually(lambda: is_leading(metrics))
        async with database.connect() as session:
            async with session.transaction():
                # The hand-over does not get past this lock.
                await session.execute("SELECT FROM ayb_realtime.leader FOR UPDATE")
                retiring = group.create_task(relay.retire())
                await asyncio.sleep(0.1)
                assert not retiring.done()
            async with asyncio.timeout(20):
                await retiring
            assert await session.fetchval("SELECT pid IS NULL FROM ayb_realtime.leader")
        task.cancel()


async def test_leader_that_loses_its_database_while_it_hands_over_ends(database, relays):
    """A relay that is asked to end does not wait for a hand-over that has failed."""
    metrics = RelayMetrics()
    relay = Relay(relays.settings(), health=Health(metrics), metrics=metrics)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(relay.run())
        await eventually(lambda: is_leading(metrics))
        async with database.connect() as session, session.transaction():
            # Neither a renewal nor the hand-over gets past this lock.
            pid = await session.fetchval("SELECT pid FROM ayb_realtime.leader FOR UPDATE")
            retiring = group.create_task(relay.retire())
            await asyncio.sleep(0)
            await session.execute("SELECT pg_terminate_backend($1)", pid)
            async with asyncio.timeout(20):
                await retiring
        task.cancel()


@pytest.mark.parametrize("preferred", ["priority", "round trip"])
async def test_lead_goes_to_the_relay_that_should_have_it(
    postgres_server, valkey_server, database, relays, ear, preferred, monkeypatch
):
    """A relay with a lower priority, or with a long way to Postgres, hands the lead over to a
    better one once that has been ready for a while, without a loss or a repetition, and stands by.
    """
    monkeypatch.setattr("relay.session.patience.FIRST_SECONDS", 1.0)
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with Proxy(postgres_server.port) as proxy:
        proxy.delay_seconds = 0.02 if preferred == "round trip" else 0.0
        far = Relays(proxy.lead(database.relay_dsn), valkey_server.url)
        health, metrics = Health(RelayMetrics()), RelayMetrics()
        async with far.running() as first, asyncio.TaskGroup() as group:
            await ear.ticked()
            settings = relays.settings(relay_priority=int(preferred == "priority"))
            task = group.create_task(Relay(settings, health=health, metrics=metrics).run())
            number = 0
            while not is_leading(metrics):
                await database.execute("INSERT INTO t VALUES ($1)", number)
                number += 1
            assert not is_leading(first)
            await database.execute("INSERT INTO t VALUES ($1)", number)
            await ear.until(lambda: ear.heard[-1].new == f'{{"id":{number}}}')
            await asyncio.sleep(3)
            assert is_leading(metrics)
            assert not is_leading(first)
            task.cancel()
            await eventually(lambda: is_leading(first))
    told = {(h.batch, h.change.index): json.loads(h.new or "")["id"] for h in ear.heard}
    assert [told[place] for place in sorted(told)] == list(range(number + 1))


async def test_better_relay_that_fails_whenever_it_leads(database, relays, monkeypatch):
    """A relay that should lead, and fails each time it does, gets the lead less and less often."""
    monkeypatch.setattr("relay.session.patience.FIRST_SECONDS", 0.5)
    failures = 0

    class Failing(Relay):
        async def _lead(self, *_: object) -> None:
            nonlocal failures
            failures += 1
            raise DatabaseUnavailableError("it fails")

    better = RelayMetrics()
    settings = relays.settings(relay_priority=1)
    async with relays.running(), asyncio.TaskGroup() as group:
        task = group.create_task(Failing(settings, health=Health(better), metrics=better).run())
        await eventually(lambda: failures >= 2)
        async with database.connect() as session, asyncio.timeout(40):
            while not await session.fetchval(STEADY):
                await session.execute("SELECT pg_sleep(0.05)")
        task.cancel()


STEADY = """
    SELECT pid IS NOT NULL AND clock_timestamp() > since + interval '3 s' FROM ayb_realtime.leader
"""


async def test_another_leader_is_named_loudly(valkey_server, database, relays):
    """A relay that leads and hears another one, as of an old primary that is not fenced, says so in
    log, readiness and metrics, until the other is silent.
    """
    health, metrics = Health(RelayMetrics()), RelayMetrics()
    key = "k" * 32
    relay = Relay(relays.settings(realtime_bus_key=key), health=health, metrics=metrics)
    client = redis_client(valkey_server.url)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(relay.run())
        await eventually(lambda: is_leading(metrics))
        history = await history_of(database)
        channel = Channels.of(history, None).relays
        other = msgspec.json.encode(Announcement(1, history, "other", "old host", 7))

        async def announce(data: bytes) -> None:
            while True:
                await client.publish(channel, data)
                await asyncio.sleep(0.1)

        forged = group.create_task(announce(other))
        await asyncio.sleep(3)
        assert not metrics.rivals._value.get()
        forged.cancel()
        signed = group.create_task(announce(signature.sign(key.encode(), channel, other)))
        await eventually(lambda: "old host (epoch 7)" in health.page[1])
        assert metrics.rivals._value.get() == 1
        signed.cancel()
        await eventually(lambda: health.page == (200, "ok\n"))
        task.cancel()
    await client.aclose()


async def test_another_leader_is_heard_after_the_connection_went_dead(
    valkey_server, database, relays
):
    """A connection to Redis that carries nothing any more, without an error, is made again."""
    health, metrics = Health(RelayMetrics()), RelayMetrics()
    async with Proxy(valkey_server.port, matching=b"SUBSCRIBE") as proxy:
        settings = relays.settings(redis_url=proxy.lead(valkey_server.url))
        client = redis_client(valkey_server.url)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Relay(settings, health=health, metrics=metrics).run())
            await eventually(lambda: is_leading(metrics))
            history = await history_of(database)
            channel = Channels.of(history, None).relays
            other = msgspec.json.encode(Announcement(1, history, "other", "old host", 7))
            async with asyncio.timeout(60):
                while not await client.publish(channel, b"is anyone there"):
                    await client.ping()
                proxy.discard_present()
                while "old host (epoch 7)" not in health.page[1]:
                    await client.publish(channel, other)
                    await asyncio.sleep(0.1)
            task.cancel()
        await client.aclose()


async def test_concurrent_first_starts(postgres_server, valkey_server, database, ear):
    """Relays that start together on an empty database migrate it once, and one of them leads."""
    await database.execute("DROP SCHEMA ayb_realtime CASCADE; CREATE TABLE t (id int PRIMARY KEY)")
    relays = Relays(database.dsn, valkey_server.url)
    async with relays.process(), relays.process(), relays.process():
        await ear.ticked()
        async with database.connect() as session:
            while not await session.fetchval(
                "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgname LIKE '!ayb%')"
            ):
                await session.execute("SELECT pg_sleep(0.02)")
            numbers = await session.fetchval(
                "SELECT array_agg(number ORDER BY number) FROM ayb_realtime.migrations"
            )
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.changes(1)
    assert numbers == [migration.number for migration in migrations()]


async def test_migrating_at_once(database):
    """Concurrent migrations wait for each other; a second one finds nothing to do."""
    await database.execute("DROP SCHEMA ayb_realtime CASCADE")
    async with database.connect() as one, database.connect() as other:
        done = await asyncio.gather(migrate(one), migrate(other))
        assert sorted(map(len, done)) == [0, len(migrations()) + 1]
        assert await migrate(one) == []
        assert await missing_scripts(other) == []


async def test_migrating_equals_installing(database, monkeypatch):
    """A database that got the migrations one at a time, with functions of each time between, is the
    same as one that got all at once.
    """
    async with database.connect() as session:
        await session.execute("DROP SCHEMA ayb_realtime CASCADE")
        await migrate(session)
        at_once = await session.fetch(SCHEMA)
        await session.execute("DROP SCHEMA ayb_realtime CASCADE")
        for count in range(1, len(migrations()) + 1):
            known = migrations()[:count]
            monkeypatch.setattr("relay.schema.migrate.migrations", lambda known=known: known)
            await session.execute("CREATE SCHEMA IF NOT EXISTS ayb_realtime")
            await session.execute(
                "CREATE OR REPLACE FUNCTION ayb_realtime.outbox_bytes() RETURNS bigint "
                "LANGUAGE sql AS 'SELECT 0'"
            )
            await migrate(session)
            await session.execute("UPDATE ayb_realtime.installed_functions SET checksum = 'old'")
        await migrate(session)
        assert len(at_once) > 50
        assert await session.fetch(SCHEMA) == at_once


async def test_functions_are_replaced_when_they_change(database):
    """Outdated functions are installed again; those of a newer release are left alone."""
    async with database.connect() as session:
        for version, expected in ((0, ["functions"]), (1, ["functions"]), (2, [])):
            await session.execute(
                "UPDATE ayb_realtime.installed_functions SET checksum = 'x', version = $1", version
            )
            assert await migrate(session) == expected
        await session.execute("UPDATE ayb_realtime.migrations SET checksum = 'x'")
        with pytest.raises(SchemaError, match="differs from the one applied"):
            await migrate(session)


async def test_functions_are_dropped_by_the_second_release_without_them(database, monkeypatch):
    """A function that a release no longer has, or has with other parameters, stays for one release:
    processes of the previous one may call it. Then it goes, unless a trigger needs it; so does
    nothing outside the schema.
    """
    async with database.connect() as session:
        await session.execute(
            """
            CREATE FUNCTION ayb_realtime.gone(text) RETURNS integer LANGUAGE sql AS 'SELECT 7';
            CREATE FUNCTION ayb_realtime.newest_seq(text) RETURNS int LANGUAGE sql AS 'SELECT 7';
            CREATE FUNCTION ayb_realtime."Back"() RETURNS integer LANGUAGE sql AS 'SELECT 7';
            CREATE FUNCTION ayb_realtime.in_use() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN RETURN NULL; END';
            CREATE FUNCTION public.foreign_one() RETURNS integer LANGUAGE sql AS 'SELECT 7';
            CREATE TABLE t (id int PRIMARY KEY);
            CREATE TRIGGER needs_it AFTER INSERT ON t
                FOR EACH ROW EXECUTE FUNCTION ayb_realtime.in_use()
            """
        )

        async def install(version: int) -> list[str]:
            await session.execute("UPDATE ayb_realtime.installed_functions SET checksum = 'x'")
            monkeypatch.setattr("relay.schema.migrate.FUNCTIONS_VERSION", version)
            await migrate(session)
            return [
                row["name"]
                for row in await session.fetch(
                    "SELECT proname AS name FROM pg_proc WHERE proname = ANY ($1) "
                    "AND (proname <> 'newest_seq' OR pronargs > 0) ORDER BY 1",
                    ["gone", "newest_seq", "Back", "in_use", "foreign_one"],
                )
            ]

        everything = ["Back", "foreign_one", "gone", "in_use", "newest_seq"]
        assert await install(2) == everything
        assert await session.fetchval("SELECT ayb_realtime.gone('x')") == 7
        assert await install(2) == everything
        with monkeypatch.context() as release:
            ours = functions()
            back = (
                'CREATE OR REPLACE FUNCTION ayb_realtime."Back"() RETURNS integer LANGUAGE sql AS '
            )
            again = Script("functions", ours.sql + f"{back} 'SELECT 8';")
            release.setattr("relay.schema.migrate.functions", lambda: again)
            assert await install(3) == ["Back", "foreign_one", "in_use"]
        assert await install(4) == ["Back", "foreign_one", "in_use"]
        assert await install(5) == ["foreign_one", "in_use"]
        await session.execute("INSERT INTO t VALUES (1)")


async def test_times_in_the_future_prove_nothing(database):
    """After the server's clock was set back, what was noted before neither keeps the lead from a
    relay nor makes another one the better, and is forgotten.
    """
    async with database.connect() as session:
        for shift, is_ready in (("-1 s", True), ("1 hour", False), ("-1 hour", False)):
            await session.execute(
                """
                INSERT INTO ayb_realtime.relays
                VALUES ('me', 'me', 0, 1, 1, clock_timestamp()),
                    ('better', 'better', 1, 1, 1, clock_timestamp() + $1::text::interval)
                ON CONFLICT (id) DO UPDATE SET heard_at = excluded.heard_at
                """,
                shift,
            )
            better = await session.fetchval("SELECT ayb_realtime.better_relay('me')")
            assert (better == "better") == is_ready
            await session.execute(
                "UPDATE ayb_realtime.leader SET pid = NULL, successor = 'better', "
                "heard_at = clock_timestamp() + $1::text::interval",
                shift,
            )
            took = await session.fetchval(
                "SELECT ayb_realtime.take_lead('me', 'me', '15 s', '2 s')"
            )
            assert took != is_ready
        await session.execute("UPDATE ayb_realtime.relays SET heard_at = now() + interval '1 hour'")
        await session.execute("SELECT ayb_realtime.note_relay('me', 'me', 0, 1::real, 1)")
        assert await session.fetchval("SELECT array_agg(id) FROM ayb_realtime.relays") == ["me"]


async def test_migration_without_rights(database):
    """A login that may not migrate gets a clear error, and nothing is left half done."""
    await database.execute("DROP SCHEMA ayb_realtime CASCADE")
    async with database.connect(database.gateway_dsn) as gateway:
        with pytest.raises(SchemaError, match="python -m relay install"):
            await migrate(gateway)
