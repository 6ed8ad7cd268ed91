from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.fanout.backlog import Backlog
from gateway.fanout.subscriptions import Subscriptions
from gateway.metrics import GatewayMetrics
from gateway.streams.cursor import Cursor, cursor_at
from shared.change import FORMAT, Change, Op, TableChanges, Tick, TickTable
from shared.outbox import LogState
from shared.position import Position
from tests.unit.gateway.fanout.test_subscriptions import connection


def content(table: str, relid: int) -> TableChanges:
    return TableChanges(table, relid, ("id",), (Change(0, 1, Op.CREATE, msgspec.Raw(b"{}")),))


def tick(batch: int, *tables: tuple[str, int], epoch: int = 1) -> Tick:
    return Tick(
        FORMAT, "0" * 16, epoch, batch, 0, 0.0, tuple(TickTable(t, r, 1) for t, r in tables)
    )


def after(batch: int, epoch: int = 1) -> Cursor:
    return cursor_at(Position(epoch, batch))


@pytest.fixture
def backlog() -> Backlog:
    """A backlog that has learned of epoch 1 up to batch 10, with horizon 5, and has no database."""
    backlog = Backlog(None, most_bytes=1000, max_record_bytes=1000, metrics=GatewayMetrics())
    backlog.apply_state(LogState(1, 10, 5, {1: 1}))
    return backlog


@pytest.fixture
def subscriptions() -> Subscriptions:
    subscriptions = Subscriptions()
    subscriptions.add(connection("public.a"))
    return subscriptions


async def test_consecutive_batches_come_from_the_ring(
    backlog: Backlog, subscriptions: Subscriptions
) -> None:
    """What the bus brought whole is read from memory, with the wanted tables only."""
    backlog.on_tick(tick(11, ("public.a", 1)), {1: content("public.a", 1)}, 10)
    backlog.on_tick(tick(12, ("public.b", 2)), {}, 10)
    batches = await backlog.read(after(10), 12, subscriptions)
    assert [batch.id for batch in batches] == [11, 12]
    assert [[table.table for table in batch.tables] for batch in batches] == [["public.a"], []]


async def test_a_batch_with_a_missing_message_is_not_taken_from_the_ring(
    backlog: Backlog, subscriptions: Subscriptions
) -> None:
    """Of a tick that names a wanted table without its message, nothing is taken from memory."""
    backlog.on_tick(tick(11, ("public.b", 2)), {}, 10)
    backlog.on_tick(tick(12, ("public.a", 1)), {}, 10)
    assert [batch.id for batch in await backlog.read(after(10), 12, subscriptions)] == [11]


async def test_the_ring_is_bounded_in_bytes(backlog: Backlog, subscriptions: Subscriptions) -> None:
    """The oldest batches leave the ring, the newest always stays."""
    for number in range(11, 20):
        backlog.on_tick(tick(number), {}, 400)
    assert backlog.ring_bytes <= 1000
    assert [batch.id for batch in await backlog.read(after(17), 19, subscriptions)] == [18, 19]
    backlog.on_tick(tick(20), {}, 5000)
    assert [batch.id for batch in await backlog.read(after(19), 20, subscriptions)] == [20]


async def test_a_repeated_tick_changes_nothing(
    backlog: Backlog, subscriptions: Subscriptions
) -> None:
    """The sign of life repeats the last tick without its messages; the content stays."""
    backlog.on_tick(tick(11, ("public.a", 1)), {1: content("public.a", 1)}, 10)
    backlog.on_tick(tick(11, ("public.a", 1)), {}, 10)
    assert len((await backlog.read(after(10), 11, subscriptions))[0].tables) == 1


@pytest.mark.parametrize(
    ("position", "fault"),
    [
        (Position(1, 10), None),
        (Position(1, 4), None),  # batch 5 is the horizon
        (Position(1, 3), "expired"),
        (Position(1, 5, 0), None),
        (Position(1, 4, 0), "expired"),
        (Position(1, 11), "unknown"),
        (Position(2, 6), "unknown"),
    ],
)
async def test_positions_are_known_expired_or_unknown(
    backlog: Backlog, position: Position, fault: str | None
) -> None:
    """A position is good if all behind it can still be read, and its number was given for good."""
    assert backlog.resume_error(position) == fault


async def test_numbers_that_a_crash_took_back_are_unknown(backlog: Backlog) -> None:
    """An epoch ends where the next begins: its positions are good up to there, not beyond."""
    backlog.apply_state(LogState(2, 9, 1, {1: 1, 2: 9}))
    assert backlog.newest == 9
    assert backlog.epochs.last_before(1) == 8
    assert backlog.resume_error(Position(1, 8)) is None
    assert backlog.resume_error(Position(1, 9)) == "unknown"
    assert backlog.resume_error(Position(2, 9)) is None
    assert backlog.position(9) == Position(2, 9)


async def test_an_announced_number_is_not_believed(backlog: Backlog) -> None:
    """A tick far ahead moves nothing: the number is to be looked up, and is forgotten."""
    backlog.on_tick(tick(10**12), {}, 1)
    assert backlog.newest == backlog.confirmed == 10
    assert backlog.resume_error(Position(1, 10**12)) == "unknown"
    backlog.apply_state(LogState(1, 11, 5, {1: 1}))
    assert backlog.newest == backlog.confirmed == 11


async def test_ticks_without_a_hole_are_believed_until_the_outbox_denies_them(
    backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows on a confirmed batch counts; if it is not recorded for a minute, no more."""
    backlog.on_tick(tick(11), {}, 1)
    backlog.on_tick(tick(12), {}, 1)
    assert (backlog.newest, backlog.confirmed) == (12, 10)
    backlog.apply_state(LogState(1, 11, 5, {1: 1}))
    assert (backlog.newest, backlog.confirmed) == (12, 11)
    monkeypatch.setattr("gateway.fanout.backlog._MOST_UNCONFIRMED_SECONDS", 0.0)
    backlog.apply_state(LogState(1, 11, 5, {1: 1}))
    assert (backlog.newest, backlog.confirmed) == (11, 11)
    assert backlog.is_taken_back(after(12))


async def test_a_standby_that_lags_moves_nothing_back(backlog: Backlog) -> None:
    """A state that was seen to pass, of an earlier epoch or with fewer batches, is ignored."""
    backlog.apply_state(LogState(7, 12, 5, {1: 1, 7: 11}))
    backlog.apply_state(LogState(1, 13, 5, {1: 1}))
    backlog.apply_state(LogState(7, 11, 5, {1: 1, 7: 11}))
    assert (backlog.epochs.current, backlog.newest) == (7, 12)


async def test_two_ticks_of_one_batch_are_left_to_the_outbox(
    backlog: Backlog, subscriptions: Subscriptions
) -> None:
    """If a second tick says something else, the number is not believed until it is confirmed."""
    backlog.on_tick(tick(11), {}, 1)
    backlog.on_tick(tick(11, ("public.a", 1)), {}, 1)
    assert backlog.newest == 10
    assert await backlog.read(after(10), 11, subscriptions) == []


async def test_an_ended_epoch_leaves_the_ring(
    backlog: Backlog, subscriptions: Subscriptions
) -> None:
    """Whatever epochs begin between two looks, the ring holds only batches that still stand."""
    for number in (11, 12, 13):
        backlog.on_tick(tick(number), {}, 10)
    backlog.apply_state(LogState(9, 14, 1, {1: 1, 7: 12, 9: 14}))
    assert [batch.id for batch in await backlog.read(after(10), 11, subscriptions)] == [11]
    assert backlog.ring_bytes == 10
    assert backlog.surviving(after(13)) == Position(1, 11)
    backlog.on_tick(tick(12), {}, 10)
    assert backlog.ring_bytes == 10


async def test_waiting_ends_with_the_next_batch(backlog: Backlog) -> None:
    """Who waits behind a batch is woken by the next tick."""
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(backlog.wait_beyond(Position(1, 10)))
        await asyncio.sleep(0)
        assert not waiting.done()
        backlog.on_tick(tick(11), {}, 1)
