"""The outbox stays in bounds: by time, by bytes, and when something is in the way."""

from __future__ import annotations

import asyncio
import json

import pytest

from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.metrics import RelayMetrics
from relay.outbox.epoch import ensure_epoch
from relay.outbox.reader import Outbox
from relay.outbox.remainder import BatchLimits
from relay.outbox.rotation import Rotation, RotationLimits
from relay.session.leader import Leadership
from shared import outbox

LIMITS = BatchLimits(1000, 1 << 20, 1 << 20)
FULL = "SELECT last_value = 9223372036854775807 FROM ayb_realtime.change_seq"


class Rig:
    """A reader and a rotation that the test steps by hand."""

    def __init__(self, database, reader, side):
        self.database = database
        self.reader = reader
        self.side = side
        self.metrics = RelayMetrics()

    async def open(self, *, retention=1e9, bytes_=1 << 40):
        await ensure_epoch(self.reader)
        await Capture(self.side, [parse_pattern("public.*")], lock_milliseconds=500).install()
        await self.reopen(retention=retention, bytes_=bytes_)
        return self

    async def reopen(self, *, retention=1e9, bytes_=1 << 40):
        epoch = await ensure_epoch(self.reader)
        await Leadership(self.reader).wait(lambda _: None, asyncio.Event())
        self.outbox = await Outbox.open(
            self.reader, epoch=epoch, limits=LIMITS, metrics=self.metrics
        )
        self.rotation = Rotation(
            self.side,
            self.outbox,
            limits=RotationLimits(retention, bytes_),
            metrics=self.metrics,
        )
        await self.rotation.settle()

    async def read(self):
        """Read all there is; return the ids of the rows."""
        ids = []
        while (batch := await self.outbox.next_batch()) is not None:
            for table in batch.tables:
                ids += [json.loads(c.new_image or c.old_image or b"")["id"] for c in table.changes]
        return ids

    async def age(self, seconds):
        """Let time pass."""
        await self.database.execute(
            "UPDATE ayb_realtime.generations SET "
            "entered_at = entered_at - make_interval(secs => $1), "
            "left_at = left_at - make_interval(secs => $1)",
            seconds,
        )
        await self.database.execute(
            "UPDATE ayb_realtime.batches SET at = at - make_interval(secs => $1)", seconds
        )

    async def state(self):
        async with self.database.connect(self.database.gateway_dsn) as gateway:
            return await outbox.log_state(gateway)

    async def value(self, query):
        return await self.side.fetchval(query)


@pytest.fixture
async def rig(database):
    await database.execute("CREATE TABLE t (id int, v text)")
    async with database.connect() as reader, database.connect() as side:
        yield Rig(database, reader, side)


async def _insert(database, first, last, width=1):
    """Insert rows of this many bytes, which cannot be compressed."""
    await database.execute(
        "INSERT INTO t SELECT g, (SELECT string_agg(md5(g || ' ' || n), '') "
        "FROM generate_series(1, $3::int / 32) n) FROM generate_series($1::int, $2::int) g",
        first,
        last,
        width,
    )


async def test_by_time(database, rig):
    """Changes leave the outbox after the retention and not before; the horizon says which."""
    await rig.open(retention=400)
    before = (await rig.state()).last_batch
    for number in range(1, 13):
        await _insert(database, number, number)
        assert await rig.read() == [number]
        await rig.age(100)
        await rig.rotation.turn()
        state = await rig.state()
        # Each number is a generation of 100 s; what is younger than 400 s can be read again.
        assert state.horizon - before <= max(1, number - 3)
        assert state.horizon - before >= number - 5
        async with database.connect(database.gateway_dsn) as gateway:
            batches = await outbox.read_batches(
                gateway, after=before, upto=before + 99, tables=["public.t"], relids=[]
            )
        assert [batch.id for batch in batches] == list(range(state.horizon, before + number + 1))
        assert all(len(batch.tables[0].changes) == 1 for batch in batches)


async def test_idle_outbox_empties(database, rig):
    """Without writers everything leaves in time, and the place to continue reading is kept."""
    await rig.open(retention=400)
    first = (await rig.state()).horizon
    await _insert(database, 1, 10)
    await rig.read()
    for _ in range(12):
        await rig.age(100)
        await rig.rotation.turn()
    assert await rig.value("SELECT count(*) FROM ayb_realtime.changes") == 0
    state = await rig.state()
    assert (state.epoch, state.last_batch, state.horizon) == (1, first, first + 1)
    assert state.first_batches == {1: first}
    await _insert(database, 11, 11)
    await rig.reopen(retention=400)
    assert await rig.read() == [11]
    assert (await rig.state()).last_batch == first + 1


async def test_the_servers_clock_is_set_back(database, rig):
    """Changes still leave in time where earlier ones were captured at times that are in the future
    now.
    """
    await rig.open(retention=400)
    await _insert(database, 1, 10)
    await rig.read()
    await rig.rotation.turn()
    await rig.age(-1_000_000)
    for _ in range(12):
        await rig.rotation.turn()
        await rig.age(100)
    # What is in batches of these times stays until they have passed, or bytes run out.
    await rig.age(1_000_000)
    await rig.rotation.turn()
    assert await rig.value("SELECT count(*) FROM ayb_realtime.changes") == 0


async def test_by_bytes(database, rig):
    """Over the bound the oldest changes leave early; the newest stay."""
    await rig.open(bytes_=24 << 20)
    for number in range(30):
        await _insert(database, number * 100, number * 100 + 99, 20_000)
        await rig.read()
        await rig.rotation.turn()
        assert await rig.value("SELECT ayb_realtime.outbox_bytes()") < 30 << 20
    state = await rig.state()
    assert 1 < state.horizon < state.last_batch
    assert not await rig.value(FULL)


async def test_nothing_unread_leaves(database, rig):
    """Rotation never removes a change that is not in a batch, however old or large."""
    await rig.open(retention=400, bytes_=16 << 20)
    for number in range(8):
        await _insert(database, number, number, 100)
        await rig.age(1000)
        await rig.rotation.turn()
    assert await rig.read() == list(range(8))


async def test_long_transaction(database, rig):
    """A transaction open over many generations loses nothing, and blocks neither writers nor the
    relay, which use other partitions meanwhile.
    """
    await rig.open(retention=400)
    told = []
    async with database.connect() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("INSERT INTO t VALUES (-1)")
        for number in range(20):
            await _insert(database, number, number)
            told += await rig.read()
            await rig.age(100)
            await rig.rotation.turn()
        assert rig.metrics.rotation_refused._value.get() > 0
        assert await rig.value("SELECT max(generation) FROM ayb_realtime.generations") > 15
        await slow.execute("INSERT INTO t VALUES (-2)")
        await transaction.commit()
    told += await rig.read()
    assert told == [*range(20), -1, -2]
    # The late batch is in an old partition and stays for its own time.
    late = (await rig.state()).last_batch
    await _insert(database, 100, 100)
    await rig.read()
    await rig.age(100)
    await rig.rotation.turn()
    async with database.connect(database.gateway_dsn) as gateway:
        (batch,) = await outbox.read_batches(
            gateway, after=late - 1, upto=late, tables=["public.t"], relids=[]
        )
    assert len(batch.tables[0].changes) == 2
    for number in range(101, 110):
        await _insert(database, number, number)
        await rig.read()
        await rig.age(100)
        await rig.rotation.turn()
    assert (await rig.state()).horizon > late


async def test_slow_reader(database, rig):
    """A reader in a partition delays its emptying, and is not cut off by it."""
    await rig.open(retention=400)
    await _insert(database, 1, 1)
    await rig.read()
    async with database.connect(database.gateway_dsn) as gateway:
        async with gateway.transaction(isolation="repeatable_read"):
            assert await gateway.fetchval("SELECT count(*) FROM ayb_realtime.changes") == 1
            for _ in range(3):
                await rig.age(1000)
                await rig.rotation.turn()
            assert await gateway.fetchval("SELECT count(*) FROM ayb_realtime.changes") == 1
        await rig.rotation.turn()
        assert await gateway.fetchval("SELECT count(*) FROM ayb_realtime.changes") == 0


async def test_size_is_checked_after_an_image_that_had_to_be_reduced(database, rig):
    """An image may be large though a value of its row could not be written at all."""
    await database.execute("""
        CREATE TYPE label AS ENUM ('a');
        CREATE FUNCTION as_json(label) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            RAISE program_limit_exceeded;
        END $$;
        CREATE CAST (label AS json) WITH FUNCTION as_json(label);
        CREATE TABLE wide (id int PRIMARY KEY, labels label[]);
    """)
    columns = [f"v{n}" for n in range(50)]
    await database.execute(
        f"ALTER TABLE wide {', '.join(f'ADD {column} text' for column in columns)}"
    )
    await rig.open()
    await database.execute("UPDATE ayb_realtime.horizon SET most_bytes = 1")
    text = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, {}) n)"
    await database.execute(
        f"INSERT INTO wide SELECT 1, array_fill('a'::label, '{{2000}}'),"
        f" {', '.join([text.format(120)] * len(columns))}"
    )
    image = await rig.value(
        "SELECT octet_length(new::text) FROM ayb_realtime.changes WHERE reduced"
    )
    assert image > 150_000
    assert await rig.value(FULL)


async def test_size_is_checked_by_truncate_too(database, rig):
    """Numbers at which the size is checked may be those of TRUNCATE."""
    await rig.open()
    await database.execute("UPDATE ayb_realtime.horizon SET most_bytes = 1")
    number = "setval(s, nextval(s) | 1023) FROM (SELECT 'ayb_realtime.change_seq'::regclass) _ (s)"
    await database.execute(f"SELECT {number}")
    await database.execute("TRUNCATE t")
    assert await rig.value(FULL)


async def test_capture_stops_at_twice_the_bound(database, rig):
    """Without a relay the outbox grows to twice its bound; then writers continue uncaptured. A
    relay that returns publishes what was captured, and skips a number for what was not.
    """
    bound = 16 << 20
    await rig.open(bytes_=bound)
    await _insert(database, 1, 1)
    assert await rig.read() == [1]
    number = 2
    while not await rig.value(FULL):
        await _insert(database, number, number + 499, 10_000)
        number += 500
        assert number < 20_000
    assert await rig.value("SELECT ayb_realtime.outbox_bytes()") < 3 * bound
    await _insert(database, number, number, 1)
    await database.execute("TRUNCATE t; INSERT INTO t VALUES (0)")

    async with database.connect() as blind:
        transaction = blind.transaction()
        await transaction.start()
        await blind.execute("INSERT INTO t VALUES (-1)")
        await rig.reopen(bytes_=bound)
        told = await rig.read()
        assert told == list(range(2, len(told) + 2))
        for _ in range(3):
            await rig.rotation.turn()
        assert not await rig.value(FULL)
        await database.execute("INSERT INTO t VALUES (-2)")
        assert await rig.read() == [-2]
        # The writer that was not captured has not committed: the hole is still open.
        assert not rig.outbox.has_hole_due
        await rig.reopen(bytes_=bound)
        await transaction.commit()
    assert await rig.read() == []
    assert rig.outbox.has_hole_due
    batch = await rig.outbox.skip_number()
    assert [table.table for table in batch.tables] == ["public.t"]
    state = await rig.state()
    assert (state.last_batch, state.horizon) == (batch.id, batch.id + 1)
    await database.execute("INSERT INTO t VALUES (-3)")
    assert await rig.read() == [-3]
    assert not rig.outbox.has_hole_due


async def test_under_load(database, relays, ear):
    """With writers, a retention of seconds and a long transaction, every change arrives once."""
    await database.execute("CREATE TABLE t (id int, v text)")
    async with (
        relays.running(realtime_retention_seconds=4) as metrics,
        database.connect() as slow,
    ):
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("INSERT INTO t VALUES (-1)")
        await asyncio.gather(*(_write(database, n) for n in range(4)))
        await transaction.commit()
        await ear.changes(4 * 400 + 1)
        assert metrics.rotations._value.get() > 0
    told = sorted(json.loads(h.new or "")["id"] for h in ear.heard)
    assert told == [-1, *range(1600)]


async def _write(database, number):
    async with database.connect() as session:
        for turn in range(400):
            await session.execute("INSERT INTO t VALUES ($1)", number * 400 + turn)
            await session.fetchval("SELECT pg_sleep(0.02)")
