"""One fault in a trial: load before, during and after it, clients throughout, and the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable

from tests.support.fault_world import TABLES, USERS, Change, Told
from tests.support.ledger import Ledger, Writer
from tests.support.reader import Reader
from tests.support.stack import Stack

CHANGES = 10_000
SETTLE_SECONDS = 90.0


class Arena:
    """A stack with the world's tables, writers and readers."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack = stack
        self.ledger = Ledger(seed)
        self.random = self.ledger.random
        self.readers: list[Reader] = []
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[Writer] = []
        self._writing: list[asyncio.Task[None]] = []
        self._began = time.monotonic()

    def add_readers(self, url: Callable[[], str] | None = None) -> None:
        """Add a reader of everything for each user, and two of a single table."""
        where = url or (lambda: self.stack.gateway_url)
        wanted = [(user, frozenset(TABLES)) for user in USERS[:4]]
        wanted += [(USERS[4], frozenset({"posts"})), (USERS[0], frozenset({"notes"}))]
        for user, tables in wanted:
            self._add(user, tables, where)

    async def connected(self, seconds: float = 30.0) -> None:
        """Wait until every reader has a stream."""
        for reader in self.readers:
            try:
                async with asyncio.timeout(seconds):
                    await reader.connected.wait()
            except TimeoutError:
                raise AssertionError(
                    f"{reader.name} is not connected, after {reader.connections} connections; "
                    f"refused {reader.refused[-3:]}; failed {reader.failures[-3:]}"
                ) from None

    async def written(self, more: int, seconds: float = 60.0) -> None:
        """Wait until this many more changes have been committed."""
        await self.ledger.reach(self.ledger.count + more, seconds)

    @contextlib.asynccontextmanager
    async def load(
        self, *, writers: int = 3, pause: float = 0.1, changes: int = CHANGES
    ) -> AsyncIterator[None]:
        """Write while the body runs, and after it until there are enough changes."""
        await self.connected()
        self._writers = [
            Writer(self.stack.database.dsn, self.ledger, pause=pause) for _ in range(writers)
        ]
        async with asyncio.TaskGroup() as group:
            for writer in self._writers:
                group.create_task(writer.run(), name="writer")
            await self.written(1_000)
            yield
            await self.written(1_000)
            await self.ledger.reach(changes)
            for writer in self._writers:
                writer.stop()

    async def settle(self, *, may_resync: bool = False, seconds: float = SETTLE_SECONDS) -> None:
        """Check that each client has received every committed change it may see, once, and no more.

        The last change is one that every client sees, so a repeated event before it is noticed.
        """
        last = Writer(self.stack.database.dsn, self.ledger, pause=0)
        running = asyncio.create_task(last.run())
        await self.written(1)
        last.stop()
        await running
        end = time.monotonic() + seconds
        for reader in self.readers:
            await self._complete(reader, end)
        told = sum(len(reader.seen) for reader in self.readers)
        for reader in self.readers:
            assert not reader.complaints, f"{reader.name}: {reader.complaints[:3]}"
            assert may_resync or not reader.resyncs, f"{reader.name}: {reader.resyncs}"
            assert not reader.errors, f"{reader.name}: {reader.errors[:3]}"
            invented = reader.seen - self._expected(reader, self.ledger.changes())
            assert not invented, f"{reader.name} must not receive {sorted(invented)[:3]}"
        print(
            f"\nseed {self._seed}: {self.ledger.count} changes, {len(self.readers)} clients, "
            f"{told} events received, {sum(r.connections for r in self.readers)} connections, "
            f"{sum(len(r.resyncs) for r in self.readers)} resyncs, "
            f"{time.monotonic() - self._began:.1f} s"
        )

    async def close(self) -> None:
        """Close the readers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _add(self, user: str, tables: frozenset[str], url: Callable[[], str]) -> None:
        reader = Reader(
            f"reader {len(self.readers)}",
            user,
            tables,
            url=url,
            token=self.stack.token(user),
            ledger=self.ledger,
        )
        self.readers.append(reader)
        self._tasks.append(asyncio.create_task(reader.run(), name=reader.name))

    async def _complete(self, reader: Reader, end: float) -> None:
        while True:
            reader.moved.clear()
            expected = self._expected(reader, self.ledger.changes(after=reader.since))
            missing = expected - reader.seen
            if not missing or reader.complaints:
                return
            left = end - time.monotonic()
            assert left > 0, (
                f"seed {self._seed}: {reader.name} lacks {len(missing)} of {len(expected)} "
                f"events, such as {sorted(missing)[:3]}; its position is "
                f"{reader.last_event_id}, "
                f"{reader.connections} connections, refused {reader.refused[-3:]}"
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.5)):
                    await reader.moved.wait()
            await asyncio.sleep(0.05)  # a burst is looked at once

    @staticmethod
    def _expected(reader: Reader, changes: Iterable[Change]) -> set[Told]:
        return {change.told for change in changes if change.is_told_to(reader.user, reader.tables)}
