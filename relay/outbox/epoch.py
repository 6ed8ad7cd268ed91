"""Epochs: stretches of batch numbers that no crash of Postgres can have taken back.

Batches are recorded with `synchronous_commit = off`, so a crash may forget the newest of them,
whose numbers clients may already have. So before a relay writes batches it checks whether Postgres
has crashed since (an unlogged table is then empty) or is another database than the one the log was
written in (`pg_dump` and restore, also into the same database), and begins a new epoch if so. The
numbers continue; a position carries its epoch, so a number that was taken back is not mistaken for
its successor.

Two histories that part from the same point must not be mistaken for each other either: an old
primary comes back after its standby was promoted, a backup is restored twice, a database is dropped
and made again. So an epoch is named by the time at which it begins. A first epoch, whose name is
left out of positions, begins with a number beyond all that an earlier history can have given out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared.sql import queries

if TYPE_CHECKING:
    from asyncpg import Connection

log = structlog.get_logger(__name__)

_SQL: Final = queries("relay.outbox")

_MOST_BATCHES_A_SECOND: Final = 1_000
"""The relay's pace allows for half as many."""

_LAST_EPOCH: Final = 999_000_000
"""Positions have room for nine digits, which seconds since 2025 fill in 2056."""

Snapshot = tuple[int, int, tuple[int, ...]]
"""A pg_snapshot: the xids xmin and xmax, and those in progress between them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where reading goes on: the last batch recorded.

    If it is not `complete`, the changes between its two snapshots with a `seq` after `last_seq` are
    still to come.
    """

    id: int
    prev_snapshot: Snapshot
    snapshot: Snapshot
    complete: bool
    last_seq: int
    relids: tuple[int, ...]


async def ensure_epoch(connection: Connection) -> int:
    """Begin an epoch if one is due, and return the current one.

    The first one brings the place from which changes are read, so this comes before the first
    trigger is installed.
    """
    state = await connection.fetchrow(_SQL["database_state"])
    if state["is_same"] and state["has_checkpoint"] and state["is_uncrashed"]:
        return int(state["epoch"])
    async with connection.transaction():
        # Unlike a batch, an epoch must be safe on disk before its numbers are published.
        await connection.execute(_SQL["commit_durably"])
        await connection.execute(_SQL["lock_epochs"])
        state = await connection.fetchrow(_SQL["database_state"])
        epoch, last = state["epoch"], state["last_batch"]
        following = max(epoch + 1, min(state["clock"], _LAST_EPOCH))
        if epoch == 0:
            following = 1
            reason, first = "first start", max(1, state["clock"] * _MOST_BATCHES_A_SECOND)
            await connection.execute(_SQL["raise_horizon"], first)
            await connection.execute(_SQL["begin_epoch"], following, first)
            await connection.execute(_SQL["baseline"], first - 1, following)
        elif not state["is_same"] or not state["has_checkpoint"]:
            # The outbox holds OIDs and xids of another database. One number stays unused, so that
            # every client notices that something in between cannot be replayed.
            reason, first = "other database", max(last, state["first_batch"]) + 2
            await connection.execute(_SQL["empty_outbox"])
            await connection.execute(_SQL["forget_generations"])
            await connection.execute(_SQL["raise_horizon"], first)
            await connection.execute(_SQL["begin_epoch"], following, first)
            await connection.execute(_SQL["baseline"], first - 1, following)
        elif not state["is_uncrashed"]:
            reason, first = "crash of Postgres", last + 1
            await connection.execute(_SQL["begin_epoch"], following, first)
        else:
            return int(epoch)
    log.info("epoch begins", epoch=following, first_batch=first, reason=reason)
    return int(following)


async def read_checkpoint(connection: Connection) -> Checkpoint:
    """Read where the log ends; there is an epoch already."""
    row = await connection.fetchrow(_SQL["checkpoint"])
    return Checkpoint(
        row["id"],
        row["prev_snapshot"],
        row["snapshot"],
        row["complete"],
        row["last_seq"],
        tuple(row["relids"]),
    )
