"""What is written to whom of a judged portion, and when nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway.fanout import delivery as delivery_module
from gateway.fanout.backlog import Backlog
from gateway.fanout.delivery import Delivery, Pace
from gateway.fanout.dispatch import Dispatch, Judged, Notice, Run, SomeGroups, runs_of
from gateway.fanout.slow_tables import SlowTables
from gateway.fanout.subscriptions import Subscriptions
from gateway.metrics import GatewayMetrics
from gateway.streams import sse
from gateway.streams.cursor import Cursor, cursor_at
from gateway.streams.frame import Frame
from gateway.visibility.answer import EVERYBODY, Answer
from gateway.visibility.question_errors import (
    PolicyStallsError,
)
from shared.change import Batch, Change, Op, TableChanges
from shared.errors import DatabaseUnavailableError
from shared.outbox import LogState
from shared.position import Position
from tests.unit.gateway.fanout.test_subscriptions import connection
from tests.unit.gateway.streams.test_connection import Harness


def at(index: int, epoch: int = 1, batch: int = 5) -> Cursor:
    return cursor_at(Position(epoch, batch, index))


class WholeImages(Backlog):
    """A backlog at batch 10 without a database, with whole images of 5 MiB each."""

    def __init__(self) -> None:
        super().__init__(None, most_bytes=1_000, max_record_bytes=1_000, metrics=GatewayMetrics())
        self.apply_state(LogState(1, 10, 1, {1: 1}))
        self.fetched: list[list[int]] = []

    async def image_bytes(self, seqs: Any) -> dict[int, int]:
        return dict.fromkeys(seqs, 5 * 1024 * 1024)

    async def whole_images(self, seqs: Any) -> Any:
        self.fetched.append(list(seqs))
        return {(1, seq): (b'{"id":%d}' % seq, None) for seq in seqs}


class Visibility:
    """Everyone sees everything, unless the table is set to fail."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.broken: dict[int, str] = {}
        self.unavailable: set[int] = set()
        self.stalling: set[int] = set()

    def plan_of(self, relid: int, role: str) -> None:
        """Know no plan."""

    async def ask(
        self, relid: int, audience: Any, images: Any, lsn: int, *, may_postpone: bool
    ) -> Answer[Any]:
        if relid in self.unavailable:
            raise DatabaseUnavailableError
        if relid in self.stalling:
            raise PolicyStallsError("database unavailable (40001)")
        self.asked.append(len(images))
        grouping = audience.grouped(())
        broken = {0: self.broken[relid]} if relid in self.broken else {}
        return Answer(frozenset({"id"}), grouping, [EVERYBODY] * len(images), broken)


def a_delivery(visibility: Visibility | None = None) -> tuple[Delivery, WholeImages]:
    backlog = WholeImages()
    return (
        Delivery(
            visibility=visibility,  # type: ignore[arg-type]
            backlog=backlog,
            deletes="all",
            metrics=GatewayMetrics(),
            slow_tables=SlowTables(),
            pool_connections=8,
        ),
        backlog,
    )


@asynccontextmanager
async def clients(*cursors: Cursor) -> AsyncIterator[list[Harness]]:
    async with asyncio.TaskGroup() as group:
        found = [Harness(group) for _ in cursors]
        for client, cursor in zip(found, cursors, strict=True):
            client.connection.cursor = cursor
        yield found


async def test_a_run_is_told_at_its_beginning() -> None:
    """One frame stands for the changes 3 to 7 of a table: whoever does not have all of them gets it
    before anything else from between, and no position moves past what was not sent.
    """
    async with clients(at(2), at(4), at(6), at(7)) as found:
        groups = [[client.connection for client in found]]
        delivery, _ = a_delivery()
        run = Dispatch(at(3), b"run ", groups, until=at(7))
        assert await delivery.write(Judged([run, Dispatch(at(5), b"five ", groups)])) == 5
    assert [client.socket.sent for client in found] == [
        [b"run five "],
        [b"run five "],
        [b"run "],
        [],
    ]
    assert [client.connection.cursor for client in found] == [at(5), at(5), at(6), at(7)]


async def test_a_change_that_cannot_be_sent_is_counted() -> None:
    """Each stream that is asked to fetch a table again counts, with the reason."""
    async with clients(at(2), at(2)) as found:
        groups = [[client.connection for client in found]]
        delivery, _ = a_delivery()
        resync = sse.resync_frame(None, "overflow", ["public.a"])
        await delivery.write(
            Judged([Dispatch(at(3), resync, groups), Dispatch(at(4), b"x", groups)])
        )
        counted = delivery._metrics.resyncs.labels("overflow")
        values = [sample.value for family in counted.collect() for sample in family.samples]
    assert values[0] == 2


async def test_what_was_taken_back_is_not_written() -> None:
    """Neither a frame that is taken back before it is staged, nor one that is staged already."""
    async with clients(at(0, batch=7), at(0, batch=7)) as found:
        delivery, backlog = a_delivery()
        one, other = (client.connection for client in found)
        backlog.apply_state(LogState(3, 8, 1, {1: 1, 3: 9}))
        one.cursor = at(0, batch=10)
        one.stage(Frame(b"dead"))
        judged = Judged(
            [
                Dispatch(at(0, batch=8), b"true ", [[other]]),
                Dispatch(at(0, batch=9), b"dead ", [[one, other]]),
            ]
        )
        assert await delivery.write(judged) == 1
        assert other.cursor == at(0, batch=8)
        await delivery._flush([one])
        assert one.staged is None
    assert [client.socket.sent for client in found] == [[], [b"true "]]


async def test_a_delivery_to_many_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks run between the frames and between the connections; order is kept."""
    monkeypatch.setattr(delivery_module, "_STEPS_BETWEEN_YIELDS", 1)
    monkeypatch.setattr(delivery_module, "_WRITES_BETWEEN_YIELDS", 1)
    async with clients(at(0), at(0)) as found:
        groups = [[client.connection for client in found]]
        delivery, _ = a_delivery()
        judged = Judged([Dispatch(at(n), b"%d " % n, list(groups)) for n in (1, 2)])
        writing = asyncio.create_task(delivery.write(judged))
        await asyncio.sleep(0)  # to the first place where it gives way
        assert found[0].connection.staged
        found[0].connection.write(b"between ")
        await writing
    assert b"".join(found[0].socket.sent) in {b"1 between 2 ", b"1 2 between "}
    assert b"".join(found[1].socket.sent) == b"1 2 "


async def test_an_expired_token_ends_the_stream_instead() -> None:
    """What is staged for an expired stream is not written to it."""
    async with clients(at(0)) as found:
        found[0].connection.ends_at = 1.0  # type: ignore[misc]
        delivery, _ = a_delivery()
        await delivery.write(Judged([Dispatch(at(1), b"secret", [[found[0].connection]])]))
    assert found[0].socket.sent[0].startswith(b"event: expired")


async def test_errors_are_reported_by_table_and_now_and_then() -> None:
    """The same table is reported once a minute; another one at once, whatever the message."""
    async with clients(at(0), at(0)) as found:
        groups = [[client.connection for client in found]]
        delivery, _ = a_delivery()
        for table in ("public.a", "public.b", "public.a"):
            await delivery.write(Judged(notices=[Notice(table, "a policy raises", groups)]))
    for client in found:
        errors = b"".join(client.socket.sent)
        assert errors.count(b"event: error") == 2
        assert errors.count(b'"a: a policy raises"') == errors.count(b'"b: a policy raises"') == 1


def subscriptions_of(*connections: Any) -> Subscriptions:
    subscriptions = Subscriptions()
    for one in connections:
        subscriptions.add(one)
    return subscriptions


def a_batch(*tables: tuple[str, int], changes: int = 1, truncated: bool = False) -> Batch:
    return Batch(
        1,
        5,
        0,
        0.0,
        tuple(
            TableChanges(
                name,
                relid,
                ("id",),
                tuple(
                    Change(n, n, Op.CREATE, msgspec.Raw(b'{"id":1}'), truncated=truncated)
                    for n in range(changes)
                ),
            )
            for name, relid in tables
        ),
    )


async def test_no_error_goes_out_while_another_table_can_still_fail() -> None:
    """Judging writes nothing: a table that is not answered about keeps its clients' errors back."""
    visibility = Visibility()
    visibility.broken = {1: "a policy raises"}
    visibility.unavailable = {2}
    delivery, _ = a_delivery(visibility)
    async with asyncio.TaskGroup() as group:
        client = Harness(group, tables=("public.a", "public.b"))
        subscriptions = subscriptions_of(client.connection)
        batch = a_batch(("public.a", 1), ("public.b", 2))
        await delivery.write(await delivery.judge([batch], subscriptions))
        assert client.socket.sent == []
        visibility.unavailable = set()
        visibility.broken[2] = "a policy raises"
        judged = await delivery.judge([batch], subscriptions)
        assert client.socket.sent == []
        await delivery.write(judged)
    text = b"".join(client.socket.sent)
    assert b'"a: a policy raises"' in text
    assert b'"b: a policy raises"' in text


async def test_twelve_thousand_failing_clients_cost_one_look_each() -> None:
    """The last report is kept with the connection: there is no table to be searched or cleared."""
    delivery, _ = a_delivery()
    async with asyncio.TaskGroup() as group:
        members = [Harness(group) for _ in range(12_000)]
        notices = [Notice("public.a", "a policy raises", [[one.connection]]) for one in members]
        for _ in range(3):
            await delivery.write(Judged(notices=notices))
        assert all(len(one.socket.sent) == 1 for one in members)


async def test_whole_images_are_fetched_in_bounded_pieces() -> None:
    """Of images that were too large for the bus, no more than 8 MiB are in memory at a time."""
    visibility = Visibility()
    delivery, backlog = a_delivery(visibility)
    subscriptions = subscriptions_of(connection("public.a"))
    batch = a_batch(("public.a", 1), changes=3, truncated=True)
    judged = await delivery.judge([batch], subscriptions)
    assert backlog.fetched == [[0], [1], [2]]
    assert visibility.asked == [1, 1, 1]
    assert len(judged.dispatches) == 3


async def test_nothing_is_asked_for_no_one() -> None:
    """Batches without subscribers make no question; open connections are not judged."""
    visibility = Visibility()
    delivery, _ = a_delivery(visibility)
    batch = a_batch(("public.a", 1))
    assert await delivery.judge([batch], Subscriptions()) == Judged()
    open_one = connection("public.a", role=None)
    judged = await delivery.judge([batch], subscriptions_of(open_one))
    assert len(judged.dispatches) == 1
    assert visibility.asked == []


async def test_a_table_that_fails_is_given_up_while_another_answers() -> None:
    """Its clients get nothing of the portion, not even of other tables; if no table is answered
    about, the database is away, and the portion is asked about again.
    """
    visibility = Visibility()
    visibility.unavailable = {2}
    delivery, _ = a_delivery(visibility)
    batch = a_batch(("public.a", 1), ("public.b", 2))
    async with asyncio.TaskGroup() as group:
        one = Harness(group, tables=("public.a",))
        both = Harness(group, tables=("public.a", "public.b"))
        for client in (one, both):
            client.connection.cursor = at(0, batch=4)
        subscriptions = subscriptions_of(one.connection, both.connection)
        judged = await delivery.judge([batch], subscriptions)
        assert [table for table, _ in judged.given_up] == ["public.b"]
        assert judged.leaves_out(both.connection)
        assert not judged.leaves_out(one.connection)
        await delivery.write(judged)
        assert len(one.socket.sent) == 1
        assert both.socket.sent == []
        assert both.connection.cursor == at(0, batch=4)
        visibility.unavailable = {1, 2}
        with pytest.raises(DatabaseUnavailableError):
            await delivery.judge([batch], subscriptions)


async def test_a_table_that_fails_by_itself_is_given_up_at_once() -> None:
    """An error that policies may raise at will is no reason to hold other tables."""
    visibility = Visibility()
    visibility.stalling = {1}
    delivery, _ = a_delivery(visibility)
    subscriptions = subscriptions_of(connection("public.a"))
    judged = await delivery.judge([a_batch(("public.a", 1))], subscriptions)
    assert [table for table, _ in judged.given_up] == ["public.a"]
    own = next(iter(judged.given_up))
    with pytest.raises(PolicyStallsError):
        await delivery.judge([a_batch(("public.a", 1))], subscriptions, Pace(own))


async def test_changes_for_the_same_recipients_are_written_as_one() -> None:
    """A run is one write for those who have nothing of it; those within it get the rest, and those
    past it nothing. Runs end where the recipients change, or where a frame stands for others.
    """
    async with clients(at(0), at(2), at(9)) as found:
        everyone = [[client.connection for client in found]]
        others = [[found[0].connection]]
        delivery, _ = a_delivery()
        run = [Dispatch(at(n), b"%d " % n, everyone) for n in (1, 2, 3)]
        assert await delivery.write(Judged(run)) == 4
        assert [client.socket.sent for client in found] == [[b"1 2 3 "], [b"3 "], []]
        assert [c.connection.cursor for c in found] == [at(3), at(3), at(9)]
        more = [
            Dispatch(at(4), b"4 ", everyone),
            Dispatch(at(5), b"5 ", others),
            Dispatch(at(6), b"6 ", everyone),
            Dispatch(at(7), b"7 ", everyone),
            Dispatch(at(8), b"8 ", everyone, until=at(12)),
        ]
        assert [len(run.dispatches) for run in runs_of(more)] == [1, 1, 2, 1]
        found[1].connection.cursor = at(6)
        assert await delivery.write(Judged(more)) == 8
        assert b"".join(found[0].socket.sent[1:]) == b"4 5 6 7 8 "
        assert b"".join(found[1].socket.sent[1:]) == b"7 8 "
        assert found[2].socket.sent == [b"8 "]


async def test_of_a_run_what_still_stands_is_written() -> None:
    """The end of an epoch takes back the later part of what is to be written as one."""
    async with clients(at(0, batch=7)) as found:
        delivery, backlog = a_delivery()
        groups = [[found[0].connection]]
        backlog.apply_state(LogState(3, 8, 1, {1: 1, 3: 9}))
        run = [Dispatch(at(0, batch=batch), b"%d " % batch, groups) for batch in (8, 9)]
        assert await delivery.write(Judged(run)) == 1
        other = Dispatch(at(1, batch=8), b"other ", [[found[0].connection]])
        again = [Dispatch(at(n, batch=8), b"%d " % n, groups) for n in (2, 3)]
        dead = [Dispatch(at(n, batch=9), b"dead ", groups) for n in (0, 1)]
        assert await delivery.write(Judged([other, *again, *dead])) == 3
        assert found[0].socket.sent == [b"8 ", b"other 2 3 "]


async def test_what_is_staged_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a number of deliveries what is staged is written, and staging goes on: in order."""
    monkeypatch.setattr(delivery_module, "_MOST_STAGED", 3)
    async with clients(at(0), at(0)) as found:
        everyone = [client.connection for client in found]
        delivery, _ = a_delivery()
        judged = Judged([Dispatch(at(n), b"%d " % n, [list(everyone)]) for n in range(1, 6)])
        assert await delivery.write(judged) == 10
    for client in found:
        assert client.socket.sent == [b"1 2 ", b"3 4 ", b"5 "]


def test_some_groups_are_listed_when_they_are_needed() -> None:
    """A dispatch to some of many cohorts holds their numbers, not their connections."""
    members: Any = [["a"], ["b", "c"], ["d"]]
    some: Any = SomeGroups(members, frozenset({1, 2}))
    assert len(some) == 2
    assert sorted(some) == [["b", "c"], ["d"]]
    assert some[0] in members
    assert not SomeGroups(members, frozenset())
    run = Run([Dispatch(at(1), b"x", some)], Frame(b"x"))
    recipients: Any = run.recipients()
    assert sorted(recipients) == ["b", "c", "d"]
