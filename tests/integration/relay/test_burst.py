"""Transactions larger than a batch (CASE 9), and processes killed within them (CASE 24)."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import psutil

from shared.outbox import log_state, read_batches

ROWS = 200_000


async def test_copy_of_many_rows(database, relays, ear):
    """200,000 rows by COPY in one transaction arrive in order, in batches, with bounded memory."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    async with relays.process() as process:
        await ear.ticked()
        await _triggered(database)
        before = psutil.Process(process.pid).memory_info().rss
        most = 0
        count = 0
        # Received changes are not kept, or this process would be the one that grows.
        async with database.connect() as session:
            await session.copy_records_to_table(
                "t", records=((n, "x" * 200) for n in range(ROWS)), columns=("id", "v")
            )
        while count < ROWS:
            await ear.until(lambda: ear.heard)
            taken, ear.heard = ear.heard, []
            ear.messages.clear()
            for one in taken:
                assert one.new is not None
                assert one.new.startswith(f'{{"id":{count},')
                count += 1
            most = max(most, psutil.Process(process.pid).memory_info().rss)
        numbers = sorted({tick.batch for tick in ear.ticks})
    assert count == ROWS
    assert len(numbers) > ROWS / 1001
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    # The bound: a queue of at most 64 MiB and a few batches. The rows are 80 MB as messages.
    assert most - before < 100 * 1024 * 1024


async def test_bytes_cut_a_batch(database, relays, ear):
    """A batch holds no more bytes than allowed, but at least one change."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    async with relays.running(realtime_batch_bytes=10_000):
        await database.execute(
            "INSERT INTO t SELECT g, repeat('x', 4000) FROM generate_series(1, 5) g"
        )
        await database.execute("INSERT INTO t VALUES (6, repeat('x', 50000))")
        heard = await ear.changes(6)
    first = heard[0].batch
    assert [(h.batch - first, json.loads(h.new or "")["id"]) for h in heard] == [
        (0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (3, 6),
    ]  # fmt: skip


async def test_others_go_on_after_a_burst(database, relays, ear):
    """Changes that commit while a burst is being read come after it, and nothing is missed."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int)")
    async with relays.running(realtime_batch_changes=50):
        await asyncio.gather(
            database.execute("INSERT INTO t SELECT generate_series(1, 5000)"),
            *(database.execute("INSERT INTO u VALUES ($1)", n) for n in range(50)),
        )
        heard = await ear.changes(5050)
    ids = [json.loads(h.new or "")["id"] for h in heard if h.table == "public.t"]
    assert ids == list(range(1, 5001))


async def test_killed_in_the_midst(database, relays, ear):
    """A relay is killed repeatedly during a burst: its successor continues where the log ends,
    numbers published twice have the same content, and nothing is lost.
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    environment = {"AYB_REALTIME_BATCH_CHANGES": "100"}
    total = 30_000
    async with relays.process(**environment):
        await ear.ticked()
        await _triggered(database)
    await database.execute("INSERT INTO t SELECT g, 'x' FROM generate_series(1, $1::int) g", total)
    kills = 0
    while kills < 6:
        heard = len(ear.heard)
        async with relays.process(**environment) as process:
            await ear.until(lambda: len(ear.heard) > heard + 200)  # noqa: B023
            process.send_signal(signal.SIGKILL)
            await process.wait()
            kills += 1
    async with relays.process(**environment):
        await ear.until(lambda: any(_ids(h) == total for h in ear.heard))
        await ear.ticked()
    told: dict[tuple[int, int], Any] = {}
    for one in ear.heard:
        place = (one.batch, one.change.index)
        assert told.setdefault(place, one.new) == one.new
    # What was recorded but not published before a kill is found by the gap in the numbers.
    recorded: dict[tuple[int, int], str] = {}
    async with database.connect(database.gateway_dsn) as gateway:
        state = await log_state(gateway)
        number = state.first_batches[1] - 1
        while batches := await read_batches(
            gateway, after=number, upto=state.last_batch, tables=["public.t"], relids=[]
        ):
            assert [batch.id for batch in batches] == list(
                range(number + 1, number + 1 + len(batches))
            )
            number = batches[-1].id
            for batch in batches:
                for content in batch.tables:
                    for change in content.changes:
                        image = change.new_image
                        assert image is not None
                        recorded[batch.id, change.index] = image.decode()
    assert told.items() <= recorded.items()
    ids = [json.loads(recorded[place])["id"] for place in sorted(recorded)]
    assert ids == list(range(1, total + 1))


async def test_stops_at_sigterm(database, relays, ear):
    """SIGTERM ends the relay at once, with status 0."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with relays.process() as process:
        await ear.ticked()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0


def _ids(heard):
    return json.loads(heard.new or "")["id"]


async def _triggered(database):
    async with database.connect() as session:
        while not await session.fetchval(
            "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!ayb%'"
        ):
            await session.fetchval("SELECT pg_sleep(0.02)")
