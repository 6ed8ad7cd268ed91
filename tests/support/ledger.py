"""Writers that know exactly what they have committed, whatever happens to the server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import asyncpg

from tests.support.fault_world import HOT_ROWS, ROOMS, TABLES, USERS, Change, Row

ROWS_EACH = 12
GONE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresError,
)


@dataclass
class Transaction:
    """What one transaction does."""

    number: int
    changes: list[Change] = field(default_factory=list)


class Ledger:
    """All committed transactions, and how many changes they made."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.committed: list[Transaction] = []
        self.count = 0
        self.begun = 0
        self.moved = asyncio.Condition()
        self.ids = itertools.count(1000)
        self.stamps = itertools.count(1)

    def begin(self) -> Transaction:
        """Return a new transaction; later ones have higher numbers."""
        self.begun += 1
        return Transaction(self.begun)

    async def commit(self, transaction: Transaction) -> None:
        """Record what has been committed."""
        self.committed.append(transaction)
        self.count += len(transaction.changes)
        async with self.moved:
            self.moved.notify_all()

    async def reach(self, count: int, seconds: float = 60.0) -> None:
        """Wait until this many changes have been committed in all."""
        async with asyncio.timeout(seconds), self.moved:
            await self.moved.wait_for(lambda: self.count >= count)

    def changes(self, *, after: int = 0) -> Iterator[Change]:
        """Yield the changes of all transactions with a number above `after`."""
        for transaction in self.committed:
            if transaction.number > after:
                yield from transaction.changes


class Writer:
    """Writes to rows of its own and to rows shared by all writers, through any interruption.

    If the connection is lost during a commit, the writer looks up whether it took effect.
    """

    def __init__(self, dsn: str, ledger: Ledger, *, pause: float) -> None:
        self._dsn = dsn
        self._ledger = ledger
        self._pause = pause
        self._rows: dict[int, Row] = {}
        self._connection: asyncpg.Connection | None = None
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Stop after the current transaction."""
        self._stopped.set()

    async def run(self) -> None:
        """Write until stopped."""
        try:
            while not self._stopped.is_set():
                await self._write(self._plan())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause):
                        await self._stopped.wait()
        finally:
            if self._connection is not None:
                self._connection.terminate()

    def _plan(self) -> Transaction:
        chance, ledger = self._ledger.random, self._ledger
        plan = ledger.begin()
        for table in TABLES:
            for _ in range(ROWS_EACH):
                plan.changes.append(Change("create", self._row(table, next(ledger.ids))))
        old = sorted(self._rows)
        chosen = chance.sample(old, min(len(old), 5 * ROWS_EACH))
        for number, id_ in enumerate(chosen):
            row = self._rows[id_]
            if number < 2 * ROWS_EACH:
                plan.changes.append(Change("delete", row))
            else:
                plan.changes.append(Change("update", self._row(row.table, id_)))
        hot = Row("posts", chance.choice(HOT_ROWS), "", True, 1, next(ledger.stamps))
        plan.changes.append(Change("update", hot))
        return plan

    def _row(self, table: str, id_: int) -> Row:
        chance = self._ledger.random
        return Row(
            table,
            id_,
            chance.choice(USERS),
            chance.random() < 0.3,
            chance.choice(ROOMS),
            next(self._ledger.stamps),
        )

    async def _write(self, plan: Transaction) -> None:
        rolls_back = self._ledger.random.random() < 0.1
        try:
            connection = await self._connected()
            async with connection.transaction():
                await self._apply(connection, plan)
                if rolls_back:
                    raise _RollBackError
        except _RollBackError:
            return
        except GONE as error:
            if isinstance(error, (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)):
                raise
            if not await self._look_up(plan.number):
                return
        for change in plan.changes:
            if change.action == "delete":
                del self._rows[change.row.id]
            elif change.row.id not in HOT_ROWS:
                self._rows[change.row.id] = change.row
        await self._ledger.commit(plan)

    async def _apply(self, connection: asyncpg.Connection, plan: Transaction) -> None:
        await connection.execute("INSERT INTO written VALUES ($1)", plan.number)
        for table in TABLES:
            parts: dict[str, list[Row]] = {"create": [], "update": [], "delete": []}
            for change in plan.changes:
                if change.row.table == table and change.row.id not in HOT_ROWS:
                    parts[change.action].append(change.row)
            if parts["create"]:
                await connection.copy_records_to_table(
                    table,
                    columns=("id", "author", "published", "room", "version", "stamp", "body"),
                    records=[
                        (row.id, row.author, row.published, row.room, 1, row.stamp, "text")
                        for row in parts["create"]
                    ],
                )
            if parts["update"]:
                await connection.execute(
                    f"""UPDATE {table} t SET author = u.author, published = u.published,
                            room = u.room, version = t.version + 1, stamp = u.stamp
                        FROM unnest($1::bigint[], $2::uuid[], $3::boolean[], $4::int[],
                                    $5::bigint[]) u(id, author, published, room, stamp)
                        WHERE t.id = u.id""",
                    *zip(
                        *((r.id, r.author, r.published, r.room, r.stamp) for r in parts["update"]),
                        strict=True,
                    ),
                )
            if parts["delete"]:
                await connection.execute(
                    f"DELETE FROM {table} WHERE id = ANY($1)", [row.id for row in parts["delete"]]
                )
        hot = plan.changes[-1].row
        await connection.execute(
            "UPDATE posts SET version = version + 1, stamp = $2 WHERE id = $1", hot.id, hot.stamp
        )

    async def _look_up(self, number: int) -> bool:
        """Return whether a transaction was committed, as soon as a server can be asked."""
        while True:
            self._hang_up()
            try:
                connection = await self._connected()
                return bool(
                    await connection.fetchval("SELECT true FROM written WHERE tx = $1", number)
                )
            except GONE:
                await asyncio.sleep(0.05)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None:
            self._connection = await asyncpg.connect(self._dsn, timeout=5, command_timeout=30)
        return self._connection


class _RollBackError(Exception):
    """Rolls a transaction back on purpose."""
