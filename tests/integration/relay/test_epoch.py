"""Epochs: which batch numbers are for good."""

from __future__ import annotations

import json

import pytest

from devstack.servers import free_port
from shared import outbox
from tests.conftest import Database, make_template, new_postgres
from tests.integration.relay.conftest import Relays, eventually, is_leading


@pytest.fixture
async def own(server_dir, valkey_server, tmp_path_factory):
    """A Postgres of this test's own, which may be killed, with a database and its relays."""
    folder = server_dir / f"epoch-{free_port()}"
    server = new_postgres(folder)
    with server:
        await make_template(server, "app")
        database = Database(
            "app",
            server.dsn("app"),
            server.dsn("app", user="ayb_relay"),
            server.dsn("app", user="ayb_gateway"),
        )
        await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
        yield server, database, Relays(database.relay_dsn, valkey_server.url)


async def _state(database):
    async with database.connect(database.gateway_dsn) as gateway:
        return await outbox.log_state(gateway)


async def test_crash_of_postgres(own, ear):
    """A crash of Postgres begins a new epoch after the last batch that survived; a running relay
    finds its way back by itself, and no committed change is lost.
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
    assert state.epoch == 2
    # Batches of the first epoch may have been forgotten; what was in them is told anew.
    first = state.first_batches[2]
    assert first <= 21
    told = {
        (h.batch, h.change.index): json.loads(h.new or "")["id"]
        for h in ear.heard
        if h.batch < first or h.epoch == 2
    }
    assert [told[place] for place in sorted(told)] == list(range(21))
    assert ear.ticks[-1].epoch == 2


async def test_clean_restarts(own, ear):
    """A clean restart of Postgres, or of the relay, takes no number back: the epoch goes on."""
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
    assert await _state(database) == outbox.LogState(1, 3, 1, {1: 1})


async def test_other_database(own, ear):
    """A copy of the database begins its own epoch with an empty outbox: old positions expire."""
    server, database, relays = own
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (1)")
        await ear.changes(1)
    async with database.connect(server.dsn("postgres")) as admin:
        await admin.execute("CREATE DATABASE copy TEMPLATE app")
    copy = Database(
        "copy",
        server.dsn("copy"),
        server.dsn("copy", user="ayb_relay"),
        server.dsn("copy", user="ayb_gateway"),
    )
    async with Relays(copy.relay_dsn, relays.redis_url).running():
        await copy.execute("INSERT INTO t VALUES (2)")
        await ear.until(lambda: ear.heard[-1].new == '{"id":2}')
    state = await _state(copy)
    assert (state.epoch, state.horizon, state.first_batches) == (2, 3, {1: 1, 2: 3})
    async with copy.connect(copy.gateway_dsn) as gateway:
        batches = await outbox.read_batches(
            gateway, after=0, upto=9, tables=["public.t"], relids=[]
        )
    assert [batch.id for batch in batches] == [3]
