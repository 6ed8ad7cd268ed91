"""The outbox is rotated while clients are away (CASE 23), and while they are connected."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.stack import Stack

RETENTION_SECONDS = 4
BOUND = 16 * 1024 * 1024
TABLES = """
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE TABLE idle (id int PRIMARY KEY);
    GRANT SELECT ON t, idle TO ayb_authenticated;
"""


async def rotated(stack: Stack, batch: int) -> None:
    """Write until a batch is no longer in the outbox, with ids from 1000 upwards."""
    id_ = int((await stack.rows("SELECT coalesce(max(id), 0) AS id FROM t"))[0]["id"])
    id_ = max(id_, 999)
    async with asyncio.timeout(60):
        while True:
            id_ += 1
            await stack.sql("INSERT INTO t VALUES ($1)", id_)
            horizon = await stack.rows("SELECT first_batch FROM ayb_realtime.horizon")
            if horizon[0]["first_batch"] > batch + 1:
                return
            await asyncio.sleep(0.1)


async def test_who_was_away_too_long_fetches_afresh(start_stack: Any) -> None:
    """A position that was rotated away gets `resync` and then live events: from a gateway that kept
    running, from one that already knows the horizon, and from one that has just started.
    """
    stack: Stack = await start_stack(
        relay={"AYB_REALTIME_RETENTION_SECONDS": str(RETENTION_SECONDS)},
        gateway={"AYB_REALTIME_RING_BYTES": "0"},
    )
    await stack.create(TABLES, "t")
    token = stack.token()
    async with stack.stream("t", token=token) as client:
        await client.connected()
        await stack.sql("INSERT INTO t VALUES (1)")
        position = (await client.next_message()).id
    await rotated(stack, int(position.partition("-")[0]))
    for turn in range(3):
        if turn == 2:
            await stack.restart("gateway")
        async with stack.stream("t", token=token, last_event_id=position) as client:
            kinds = []
            while "resync" not in kinds:
                event = await client.next(20)
                kinds.append(event.type)
            assert event.json() == {"reason": "expired", "tables": ["t"]}
            assert kinds == ["connected", "resync"]
            assert client.last_event_id == event.id != position
            await stack.sql("INSERT INTO t VALUES ($1)", -turn)
            id_ = 1000
            while id_ >= 1000:  # the last that were written until then may be live still
                id_ = (await client.next_message()).json()["record"]["id"]
            assert id_ == -turn


async def test_who_is_there_is_told_nothing_of_it(start_stack: Any) -> None:
    """While the outbox is rotated three times, a client that stays, one that is idle, and one that
    reconnects with each heartbeat's position get everything and no `resync`.
    """
    stack: Stack = await start_stack(
        relay={"AYB_REALTIME_RETENTION_SECONDS": str(RETENTION_SECONDS)},
        gateway={"AYB_REALTIME_HEARTBEAT_SECONDS": "0.2"},
    )
    await stack.create(TABLES, "t", "idle")
    token = stack.token()
    async with (
        stack.stream("t", token=token) as busy,
        stack.stream("idle", token=token) as idle,
    ):
        await busy.connected()
        await idle.connected()
        position = idle.last_event_id
        for _ in range(3):
            before = (await stack.rows("SELECT max(id) AS id FROM ayb_realtime.batches"))[0]["id"]
            await rotated(stack, before or 0)
            # The idle stream's position moves on with its heartbeats.
            await idle.silence(1.0)
            assert idle.last_event_id != position
            position = idle.last_event_id
            async with stack.stream("idle", token=token, last_event_id=position) as again:
                await again.connected()
                await again.silence(0.3)
        written = [row["id"] for row in await stack.rows("SELECT id FROM t ORDER BY id")]
        told = [event.json()["record"]["id"] for event in await busy.take(len(written), 30)]
        assert told == written
        assert {event.type for event in busy.events} == {"connected", "message"}
        await stack.sql("INSERT INTO idle VALUES (1)")
        assert (await idle.next_message()).json()["record"] == {"id": 1}


async def test_relay_away_until_the_outbox_is_full(start_stack: Any) -> None:
    """While the relay is away for longer than the outbox has room, writers continue and the disk
    does not fill. When the relay is back every client gets `resync` and is live again.
    """
    stack: Stack = await start_stack(
        relay={"AYB_REALTIME_OUTBOX_BYTES": str(BOUND), "AYB_REALTIME_MAX_RECORD_BYTES": "1000000"}
    )
    await stack.create(TABLES, "t")
    await stack.sql("ALTER TABLE t ADD body text")
    async with stack.stream("t", token=stack.token()) as client:
        await client.connected()
        await stack.stop("relay")
        for id_ in range(40):
            # Random, or it would be compressed away.
            await stack.sql(
                "INSERT INTO t SELECT $1, string_agg(md5(random()::text), '') "
                "FROM generate_series(1, 50000)",
                id_,
            )
        size = (await stack.rows("SELECT ayb_realtime.outbox_bytes() AS size"))[0]["size"]
        assert 2 * BOUND < size < 2.5 * BOUND
        assert (await stack.rows("SELECT count(*) AS n FROM t"))[0]["n"] == 40
        await stack.start("relay")
        reasons: list[str] = []
        live = False
        id_ = 100
        async with asyncio.timeout(60):
            while not (live and "expired" in reasons):
                id_ += 1
                await stack.sql("INSERT INTO t VALUES ($1, 'small')", id_)
                with contextlib.suppress(TimeoutError):
                    event = await client.next(0.5)
                    if event.type == "resync":
                        reasons.append(event.json()["reason"])
                    live |= event.type == "message" and event.json()["record"]["id"] > 100
        # What had been read before it was given up may have been judged after: an overflow.
        assert [reason for reason in reasons if reason != "overflow"] == ["expired"]
