"""The previous release and this one on one database and one Redis, side by side."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chart import changed
from tests.support.cluster import RELAY, Cluster, pod_environment, values_for
from tests.support.databases import Database, open_connection
from tests.support.fault_world import CAPTURED
from tests.support.previous import previous_commit, unpack
from tests.support.schema import SCHEMA
from tests.support.stack import PROJECT

if TYPE_CHECKING:
    import asyncpg

    from devstack.servers import PostgresServer
    from tests.support.arena import Arena
    from tests.support.arena_fixtures import OpenArena
    from tests.support.requirements import Requirements


JOB_ATTEMPTS = 4
"""The backoffLimit of the migrations' Job, and the first attempt."""


@pytest.fixture(scope="module")
def previous(require: Requirements, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the previous release."""
    commit = previous_commit(require)
    print(f"previous release: {commit}")
    return unpack(commit, tmp_path_factory.mktemp("previous"))


@pytest.fixture
async def bare_database(previous: Path, postgres_server: PostgresServer) -> AsyncIterator[Database]:
    """A database with the roles of the previous release, and no schema."""
    name = "upgraded"
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute(f"CREATE DATABASE {name}")
    database = Database.on(postgres_server, name)
    await database.execute((previous / "relay/schema/roles.sql").read_text(encoding="utf-8"))
    yield database
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def install(sources: Path, database: Database) -> str:
    """Run `relay install` of these sources as the Job does; return what it prints.

    A writer's lock may make it fail, so a Job tries again.
    """
    for _ in range(JOB_ATTEMPTS):
        done = subprocess.run(
            [sys.executable, "-m", "relay", "install"],
            env={"AYB_DATABASE_URL": database.relay_dsn, "AYB_REDIS_URL": "redis://localhost",
                 "AYB_REALTIME_TABLES": CAPTURED},
            cwd=sources, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return done.stdout
    raise AssertionError(done.stderr)


async def test_an_upgraded_schema(
    bare_database: Database, previous: Path, database: Database
) -> None:
    """Upgrading gives the schema that installing gives, beside functions that only the previous
    release calls; and the previous release, started again, changes nothing of it.

    While nothing is tagged, the stand-in's SQL equals HEAD's committed SQL: the test then compares
    uncommitted changes of the SQL with it.
    """

    async def schema(of: Database) -> set[asyncpg.Record]:
        async with of.connect() as session:
            return set(await session.fetch(SCHEMA))

    install(previous, bare_database)
    before = await schema(bare_database)
    install(PROJECT, bare_database)
    upgraded = await schema(bare_database)
    assert await schema(database) <= upgraded
    assert {row[0] for row in upgraded - await schema(database)} <= {"function"}
    # What an old gateway calls is still there: the name and the parameters of every function.
    called = {tuple(row)[1:3] for row in before if row[0] == "function"}
    assert called <= {tuple(row)[1:3] for row in upgraded if row[0] == "function"}
    assert "none, all are there" in install(previous, bare_database)
    assert await schema(bare_database) == upgraded


async def test_old_and_new_pods_side_by_side(
    open_arena: OpenArena, bare_database: Database, own_valkey: Any, previous: Path
) -> None:
    """Through an upgrade from the previous chart and a rollback to it, with gateways of both
    releases behind either relay, each client gets all of its events once.
    """
    values = changed(values_for(bare_database, own_valkey.url), "gateway.drainSeconds", 1)
    arena: Arena = await open_arena(
        relay=pod_environment(values, RELAY, previous),
        readers=False, database=bare_database, directory=previous,
    )  # fmt: skip
    await arena.stack.stop("gateway")  # the arena's own; the pods take its place
    cluster = Cluster(arena, values, previous)
    await cluster.start_gateway()
    await cluster.start_gateway()
    arena.add_readers(cluster.address)
    async with arena.load(pause=0.05, changes=6_000):
        # The hook migrates; relay and gateways roll at once: new gateways behind the old relay.
        install(PROJECT, bare_database)
        await arena.written(300)
        cluster.apply(values)
        new = await cluster.start_gateway()
        await arena.written(300)
        # Old gateways behind the new relay.
        await cluster.roll_relay()
        await arena.written(300)
        await cluster.roll_gateways()
        assert new not in cluster.gateways
        # Roll back, gateways first: old ones behind the new relay, then new ones behind the old.
        cluster.apply(values, previous)
        await cluster.start_gateway()
        await arena.written(300)
        await cluster.roll_relay()
        await arena.written(300)
        await cluster.roll_gateways()
    await arena.settle()
