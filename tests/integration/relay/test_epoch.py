"""Epochs: which batch numbers are final."""

from __future__ import annotations

import asyncio
import json

import pytest

from devstack.servers import free_port
from shared import outbox
from tests.integration.relay.conftest import Relays, eventually, is_leading
from tests.support.databases import ROLES_SQL, Database, make_template
from tests.support.servers import new_postgres


@pytest.fixture
async def own(server_dir, valkey_server, tmp_path_factory):
    """The test's own Postgres, which may be killed, with a database and its relays."""
    folder = server_dir / f"epoch-{free_port()}"
    server = new_postgres(folder)
    with server:
        await make_template(server, "app")
        database = Database.on(server, "app")
        await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
        yield server, database, Relays(database.relay_dsn, valkey_server.url)


async def _state(database):
    async with database.connect(database.gateway_dsn) as gateway:
        return await outbox.log_state(gateway)


async def test_crash_of_postgres(own, ear):
    """A crash of Postgres begins a new epoch after the last batch that survived. A running relay
    recovers by itself, and no committed change is lost.
    """
    server, database, relays = own
    async with relays.running() as metrics:
        for number in range(20):
            await database.execute("INSERT INTO t VALUES ($1)", number)
        await ear.changes(20)
        server.kill()
        await eventually(lambda: not is_leading(metrics))
        server.start()
        await eventually(lambda: is_leading(metrics))
        await database.execute("INSERT INTO t VALUES (20)")
        await ear.until(lambda: ear.heard[-1].new == '{"id":20}')
    state = await _state(database)
    assert len(state.first_batches) == 2
    # Batches of the first epoch may have been forgotten; what was in them is published again.
    first = state.first_batches[state.epoch]
    assert first <= state.first_batches[1] + 20
    told = {
        (h.batch, h.change.index): json.loads(h.new or "")["id"]
        for h in ear.heard
        if h.batch < first or h.epoch == state.epoch
    }
    assert [told[place] for place in sorted(told)] == list(range(21))
    assert ear.ticks[-1].epoch == state.epoch


async def test_clean_restarts(own, ear):
    """A clean restart of Postgres or of the relay takes no number back: the epoch continues."""
    server, database, relays = own
    async with relays.running() as metrics:
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.changes(1)
        server.restart()
        await eventually(lambda: not is_leading(metrics))
        await eventually(lambda: is_leading(metrics))
        await database.execute("INSERT INTO t VALUES (2)")
        await ear.until(lambda: len({h.batch for h in ear.heard}) == 2)
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (3)")
        await ear.until(lambda: len({h.batch for h in ear.heard}) == 3)
    state = await _state(database)
    first = state.first_batches[1]
    assert (state.epoch, state.last_batch, state.horizon) == (1, first + 2, first)
    assert state.first_batches == {1: first}


async def test_other_database(own, ear):
    """A copy of the database begins its own epoch with an empty outbox: old positions expire."""
    server, database, relays = own
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.changes(1)
    async with database.connect(server.dsn("postgres")) as admin:
        await admin.execute("CREATE DATABASE copy TEMPLATE app")
    copy = Database.on(server, "copy")
    async with Relays(copy.relay_dsn, relays.redis_url).running():
        await copy.execute("INSERT INTO t VALUES (2)")
        await ear.until(lambda: ear.heard[-1].new == '{"id":2}')
    state, first = await _state(copy), (await _state(database)).first_batches[1]
    assert state.first_batches == {1: first, state.epoch: first + 2}
    assert state.horizon == first + 2
    async with copy.connect(copy.gateway_dsn) as gateway:
        batches = await outbox.read_batches(
            gateway, after=0, upto=first + 9, tables=["public.t"], relids=[]
        )
    assert [batch.id for batch in batches] == [first + 2]


async def test_histories_that_part(own):
    """A position of one history means nothing in another, even if both begin at the same point: two
    copies of one database (a backup restored twice, or an old primary that comes back).
    """
    server, database, relays = own
    async with relays.running():
        pass
    states = []
    for name in ("one", "other"):
        async with database.connect(server.dsn("postgres")) as admin:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE app")
        copy = Database.on(server, name)
        async with Relays(copy.relay_dsn, relays.redis_url).running():
            states.append(await _state(copy))
        await asyncio.sleep(1)  # an epoch is named by the second
    one, other = states
    assert one.last_batch == other.last_batch
    assert one.epoch < other.epoch


async def test_a_database_made_again(own):
    """Numbers begin beyond those of a database that was dropped, so its positions are expired."""
    _, database, relays = own
    async with relays.running():
        for number in range(3):
            await database.execute("INSERT INTO t VALUES ($1)", number)
    before = await _state(database)
    await asyncio.sleep(1)  # numbers begin by the second
    await database.execute("DROP SCHEMA ayb_realtime CASCADE")
    await database.execute(ROLES_SQL.read_text())
    async with relays.running():
        after = await _state(database)
    assert after.epoch == before.epoch
    assert after.horizon > before.last_batch + 1


async def test_restored_in_place(own, ear):
    """A database whose content is restored in place begins another epoch: numbers given out since
    the backup are not reused for different content.
    """
    _, database, relays = own
    tables = ("epochs", "uncrashed", "generations", "horizon", "batches", "changes")
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.changes(1)
    await database.execute("CREATE SCHEMA kept")
    for table in tables:
        await database.execute(f"CREATE TABLE kept.{table} AS TABLE ayb_realtime.{table}")
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (2)")
        await ear.until(lambda: ear.heard[-1].new == '{"id":2}')
    before = await _state(database)
    for table in tables:
        await database.execute(f"TRUNCATE ayb_realtime.{table}")
        await database.execute(f"INSERT INTO ayb_realtime.{table} TABLE kept.{table}")
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (3)")
        await ear.until(lambda: ear.heard[-1].new == '{"id":3}')
    after = await _state(database)
    assert after.epoch > before.epoch
    assert after.horizon == after.first_batches[after.epoch]
