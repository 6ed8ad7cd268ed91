"""Every component may die: each change reaches each client that may see it, once and in order."""

from __future__ import annotations

import asyncio
import random
import shutil
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import redis.asyncio as redis

from devstack.servers import PostgresServer, free_port
from tests.acceptance.ledger import LEDGER, Ledger
from tests.acceptance.proxy import Proxy
from tests.conftest import POSTGRES_SETTINGS, Database, make_template

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.acceptance.stack import Stack

CHANGES = 10_000


@pytest.fixture
async def own_postgres(server_dir: Path) -> AsyncIterator[PostgresServer]:
    """A Postgres of the test's own, durable as in production."""
    folder = server_dir / f"own-postgres-{random.getrandbits(32):x}"
    settings = {**POSTGRES_SETTINGS, "fsync": "on", "full_page_writes": "on"}
    server = PostgresServer(folder, port=free_port(), settings=settings)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def own_database(own_postgres: PostgresServer) -> Database:
    """A database with the outbox on that Postgres."""
    await make_template(own_postgres, "app")
    return Database(
        name="app",
        dsn=own_postgres.dsn("app"),
        relay_dsn=own_postgres.dsn("app", user="ayb_relay"),
        gateway_dsn=own_postgres.dsn("app", user="ayb_gateway"),
    )


async def endure(
    stack: Stack,
    fault: Callable[[], Awaitable[None]],
    *,
    at: tuple[float, ...] = (0.2, 0.6),
    may_resync: bool = False,
    changes: int = CHANGES,
) -> None:
    """Write and follow, let the fault happen now and then, and check what everybody was told."""
    await stack.create(LEDGER, "ledger")
    ledger = Ledger(stack, changes=changes, seed=random.getrandbits(32))
    async with ledger.running(int(stack.gateway_url.rpartition(":")[2])):
        for share in at:
            await ledger.until_written(share)
            await fault()
    ledger.check(may_resync=may_resync)


async def test_redis_restarted(start_stack: Any) -> None:
    """A restarted Redis costs nothing but time."""
    stack: Stack = await start_stack()
    await endure(stack, lambda: asyncio.to_thread(stack.valkey.restart))


async def test_redis_stopped(start_stack: Any) -> None:
    """While Redis is down, changes are found by polling; afterwards they are pushed again."""
    stack: Stack = await start_stack()

    async def fault() -> None:
        await asyncio.to_thread(stack.valkey.stop)
        await asyncio.sleep(6)
        await asyncio.to_thread(stack.valkey.start)

    await endure(stack, fault, at=(0.3,))
    await pushed_again(stack)


async def test_redis_frozen(start_stack: Any) -> None:
    """A Redis that answers nothing, with its connections open, is as one that is down."""
    stack: Stack = await start_stack()

    async def fault() -> None:
        stack.pause("valkey")
        await asyncio.sleep(8)
        stack.resume("valkey")

    await endure(stack, fault, at=(0.3,))
    await pushed_again(stack)


async def test_subscriber_cut_by_redis(start_stack: Any) -> None:
    """A subscriber that Redis cuts, as for its output buffer, loses no event."""
    stack: Stack = await start_stack()

    async def fault() -> None:
        client = redis.Redis.from_url(stack.valkey.url)
        assert await client.client_kill_filter(_type="pubsub") >= 1
        await client.aclose()

    await endure(stack, fault, at=(0.1, 0.3, 0.5, 0.7, 0.9))


async def test_redis_out_of_one_gateways_reach(start_stack: Any) -> None:
    """A gateway that alone cannot reach Redis finds its changes in the outbox."""
    stack: Stack = await start_stack(start=False)
    async with Proxy(stack.valkey.port) as proxy:
        stack.set("gateway", AYB_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
        await stack.start("relay")
        await stack.start("gateway")

        async def fault() -> None:
            proxy.discard()
            await asyncio.sleep(5)
            proxy.restore()

        await endure(stack, fault, at=(0.3,))


async def test_relay_killed(start_stack: Any) -> None:
    """A relay killed in the midst of a batch goes on under the same numbers."""
    stack: Stack = await start_stack()

    async def fault() -> None:
        await stack.kill("relay")
        await stack.start("relay")

    await endure(stack, fault, at=(0.1, 0.3, 0.5, 0.7))


async def test_relay_frozen(start_stack: Any) -> None:
    """A relay that stands still for a while catches up."""
    stack: Stack = await start_stack()

    async def fault() -> None:
        stack.pause("relay")
        await asyncio.sleep(4)
        stack.resume("relay")

    await endure(stack, fault, at=(0.3,))


async def test_notifications_discarded(start_stack: Any) -> None:
    """A LISTEN connection whose packets vanish silently delays changes, and loses none."""
    stack: Stack = await start_stack(start=False)
    async with Proxy(stack.postgres.port, only=b"ayb-relay listen") as proxy:
        dsn = stack.database.relay_dsn.replace(str(stack.postgres.port), str(proxy.port))
        stack.set("relay", AYB_DATABASE_URL=dsn)
        await stack.start("relay")
        await stack.start("gateway")

        async def fault() -> None:
            proxy.discard()
            await asyncio.sleep(3)

        await endure(stack, fault, at=(0.3,))


async def test_gateway_killed(start_stack: Any) -> None:
    """Clients of a killed gateway continue at another one where they were."""
    stack: Stack = await start_stack()

    async def fault() -> None:
        await stack.kill("gateway")
        await stack.start("gateway")

    await endure(stack, fault, at=(0.2, 0.5, 0.8))


async def test_gateway_stopped(start_stack: Any) -> None:
    """A gateway that is asked to stop drains, ends with status 0, and its clients continue."""
    stack: Stack = await start_stack()

    async def fault() -> None:
        assert await stack.stop("gateway") == 0
        await stack.start("gateway")

    await endure(stack, fault)


async def test_sockets_cut_again_and_again(start_stack: Any) -> None:
    """Clients whose sockets are cut all the time miss nothing and get nothing twice (CASE 22)."""
    stack: Stack = await start_stack()
    await stack.create(LEDGER, "ledger")
    ledger = Ledger(stack, changes=CHANGES, seed=random.getrandbits(32))
    async with ledger.running(int(stack.gateway_url.rpartition(":")[2])):
        while ledger.written < ledger.changes:
            random.choice(ledger.followers).cut()
            await asyncio.sleep(0.02)
    ledger.check()
    assert sum(follower.connections for follower in ledger.followers) > 50


async def test_read_pool_cut(start_stack: Any) -> None:
    """Connections of the gateway to Postgres that break in the midst of a question are replaced."""
    stack: Stack = await start_stack()

    async def fault() -> None:
        await stack.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'ayb-gateway' AND datname = current_database()"
        )

    await endure(stack, fault, at=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))


async def test_the_record_of_batches_refused(start_stack: Any) -> None:
    """A database that refuses the relay's writes (disk full) holds changes up, and loses none."""
    stack: Stack = await start_stack()
    await stack.sql("""
        CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE 'could not extend file' USING ERRCODE = '53100';
        END $$;
    """)

    async def fault() -> None:
        await stack.sql(
            "CREATE TRIGGER full_disk BEFORE INSERT ON ayb_realtime.batches "
            "FOR EACH ROW EXECUTE FUNCTION disk_full()"
        )
        await asyncio.sleep(2)
        await stack.sql("DROP TRIGGER full_disk ON ayb_realtime.batches")

    await endure(stack, fault, at=(0.3,))


async def test_postgres_restarted(
    start_stack: Any, own_postgres: PostgresServer, own_database: Database
) -> None:
    """After an orderly restart of Postgres every position still continues."""
    stack: Stack = await start_stack(postgres=own_postgres, database=own_database)
    await endure(stack, lambda: asyncio.to_thread(own_postgres.restart))


async def test_postgres_crashed(
    start_stack: Any, own_postgres: PostgresServer, own_database: Database
) -> None:
    """A crash of Postgres takes back numbers at most: clients are told to fetch afresh."""
    stack: Stack = await start_stack(postgres=own_postgres, database=own_database)

    async def fault() -> None:
        postmaster = psutil.Process(own_postgres.pid)
        children = postmaster.children(recursive=True)
        own_postgres.kill()
        for child in children:
            child.kill()
        await asyncio.to_thread(psutil.wait_procs, children, 10)
        await asyncio.to_thread(own_postgres.start)

    await endure(stack, fault, may_resync=True)


async def test_everything_at_random(
    start_stack: Any, own_postgres: PostgresServer, own_database: Database
) -> None:
    """Any mixture of faults, one after the other, loses and repeats nothing."""
    stack: Stack = await start_stack(postgres=own_postgres, database=own_database)

    async def kill(name: str) -> None:
        await stack.kill(name)
        await stack.start(name)

    async def freeze(name: str) -> None:
        stack.pause(name)
        await asyncio.sleep(1)
        stack.resume(name)

    faults: list[Callable[[], Awaitable[None]]] = [
        lambda: kill("relay"),
        lambda: kill("gateway"),
        lambda: stack.restart("gateway"),
        lambda: freeze("valkey"),
        lambda: freeze("relay"),
        lambda: freeze("gateway"),
        lambda: asyncio.to_thread(stack.valkey.restart),
        lambda: asyncio.to_thread(own_postgres.restart),
    ]
    seed = random.getrandbits(32)
    print(f"faults by seed {seed}")
    chosen = random.Random(seed)

    async def one_of_them() -> None:
        await chosen.choice(faults)()

    at = tuple(n / 10 for n in range(1, 10))
    await endure(stack, one_of_them, at=at, changes=2 * CHANGES)


async def pushed_again(stack: Stack) -> None:
    """Wait until ticks arrive, as `/readyz` says."""
    async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as http:
        while True:
            answer = await http.get(f"{stack.gateway_url}/readyz")
            if answer.json()["parts"]["bus"] == "ok":
                return
            await asyncio.sleep(0.1)
