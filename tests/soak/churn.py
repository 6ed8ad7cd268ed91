"""What comes and goes beside the load: clients, tables, policies and roles.

Tables and rules check what their own clients receive. `wrong` are facts that must not occur.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg

from tests.support.ledger import GONE
from tests.support.sse_client import SseClient, StreamEndedError

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from tests.support.stack import Stack

ANN = "0b54d0d6-9c0f-4c5f-9c3e-000000000001"
BEN = "0b54d0d6-9c0f-4c5f-9c3e-000000000002"
ARRIVES_SECONDS = 90.0

TABLES = """
    CREATE TABLE shifting (id bigint PRIMARY KEY, owner uuid);
    CREATE TABLE marks (id bigint PRIMARY KEY);
    ALTER TABLE shifting ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON shifting, marks TO ayb_authenticated;
    DROP ROLE IF EXISTS soak_guest;
    CREATE ROLE soak_guest;
"""
CLEAR = """
    DROP POLICY IF EXISTS p ON shifting;
    REVOKE soak_guest FROM ayb_authenticated;
"""
OWNER = "owner = NULLIF(current_setting('ayb.user_id'), '')::uuid"
RULES = {
    "owner": (f"CREATE POLICY p ON shifting USING ({OWNER})", {ANN}),
    "not the owner": (f"CREATE POLICY p ON shifting USING (NOT {OWNER})", {BEN}),
    "everybody": ("CREATE POLICY p ON shifting USING (true)", {ANN, BEN}),
    "nobody": ("SELECT", set()),
    "a role they have": (
        """GRANT soak_guest TO ayb_authenticated;
        CREATE POLICY p ON shifting TO soak_guest USING (true)""",
        {ANN, BEN},
    ),
    "a role they have not": ("CREATE POLICY p ON shifting TO soak_guest USING (true)", set()),
}
"""Each with those who see a row that Ann owns."""


@contextlib.asynccontextmanager
async def opened(client: SseClient) -> AsyncIterator[SseClient]:
    """Open a client, and leave no socket behind however that ends."""
    try:
        yield await client.open()
    finally:
        if hasattr(client, "_writer"):
            client.cut()


class Follower:
    """A client that keeps reconnecting with its position, and keeps what it has received."""

    def __init__(self, name: str, url: Callable[[], str], token: str, tables: str) -> None:
        self.name = name
        self.rows: set[tuple[str, int]] = set()
        self.repeated: list[tuple[str, int]] = []
        self.resyncs = 0
        self.moved = asyncio.Event()
        self._url = url
        self._token = token
        self._tables = tables
        self._last_event_id = ""

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            with contextlib.suppress(OSError, StreamEndedError, AssertionError):
                await self._read()
            await asyncio.sleep(0.2)

    async def has(self, row: tuple[str, int]) -> bool:
        """Wait until a row has been received; False if it does not come."""
        try:
            async with asyncio.timeout(ARRIVES_SECONDS):
                while row not in self.rows:
                    self.moved.clear()
                    await self.moved.wait()
        except TimeoutError:
            return False
        return True

    async def _read(self) -> None:
        client = SseClient(
            self._url(), token=self._token, last_event_id=self._last_event_id, tables=self._tables
        )
        try:
            async with opened(client):
                while client.status == 200:
                    event = await client.next(3600)
                    if event.type == "message":
                        body = event.json()
                        row = (body["table"], body["record"]["id"])
                        if row in self.rows:
                            self.repeated.append(row)
                        self.rows.add(row)
                        self.moved.set()
                    elif event.type == "resync":
                        self.resyncs += 1
                    client.raw.clear()
                    client.events.clear()
        finally:
            self._last_event_id = client.last_event_id


class Churn:
    """Changes things until it is cancelled, and counts its rounds by kind."""

    def __init__(self, stack: Stack, chance: random.Random, gateways: tuple[str, ...]) -> None:
        self.rounds: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._stack = stack
        self._chance = chance
        self._gateways = gateways
        self._is_over = asyncio.Event()

    def stop(self) -> None:
        """End after the current rounds."""
        self._is_over.set()

    async def run(self) -> None:
        """Change everything, side by side, until stopped."""
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(self._clients(), name=f"clients {number}")
            group.create_task(self._tables(), name="tables")
            group.create_task(self._rules(), name="rules")

    def _url(self) -> str:
        return self._stack.url(self._chance.choice(self._gateways))

    async def _pause(self, most: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._chance.uniform(0.05, most)):
                await self._is_over.wait()

    async def _clients(self) -> None:
        """Clients that come, read a little, and leave in every way; and some that are refused."""
        while not self._is_over.is_set():
            way = self._chance.choice(["closes", "is cut", "never reads", "unknown", "forged"])
            tables = "posts,drafts,notes" if way != "unknown" else f"t{self._chance.random()}"
            token = self._stack.token() if way != "forged" else "x.y.z"
            client = SseClient(self._url(), token=token, tables=tables)
            with contextlib.suppress(OSError, StreamEndedError, TimeoutError, AssertionError):
                async with asyncio.timeout(20), opened(client):
                    if way == "never reads":
                        client.pause_reading()
                    elif client.status == 200:
                        await client.connected()
                    await self._pause(2.0)
                    if way == "closes":
                        await client.close()
                    self.rounds[f"client {way}"] += 1
            await self._pause(0.5)

    async def _tables(self) -> None:
        """Tables that are made, written, altered, renamed and dropped under their clients."""
        for number in itertools.count():
            if self._is_over.is_set():
                return
            with contextlib.suppress(*GONE, StreamEndedError, asyncpg.PostgresError):
                await self._table(f"churn_{number}", mark=-number - 1)
                self.rounds["tables"] += 1
            with contextlib.suppress(*GONE):
                await self._stack.sql(f"DROP TABLE IF EXISTS churn_{number}, churned_{number}")
            await self._pause(1.0)

    async def _table(self, name: str, mark: int) -> None:
        stack = self._stack
        await stack.create(
            f"""
            CREATE TABLE {name} (id int PRIMARY KEY, owner uuid);
            ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON {name} USING ({OWNER});
            GRANT SELECT ON {name} TO ayb_authenticated;
            """,
            name,
        )
        streams = [
            SseClient(self._url(), token=stack.token(user), tables=f"{name},marks")
            for user in (ANN, BEN)
        ]
        async with opened(streams[0]) as ann, opened(streams[1]) as ben:
            await ann.connected()
            await ben.connected()
            await stack.sql(f"INSERT INTO {name} SELECT n, '{ANN}' FROM generate_series(1, 3) n")
            await stack.sql(f"ALTER TABLE {name} ADD COLUMN more text DEFAULT 'more'")
            await stack.sql(f"INSERT INTO {name} VALUES (4, '{BEN}')")
            await stack.sql(f"INSERT INTO marks VALUES ({mark})")
            for user, client, ids in (("Ann", ann, [1, 2, 3]), ("Ben", ben, [4])):
                got, end = await self._rows_before(mark, name, client)
                if end == "timeout":
                    self.wrong.append(f"mark {mark} after {got} of {name} never reached {user}")
                if not set(got) <= set(ids) or (end == "mark" and got != ids):
                    self.wrong.append(f"{user} received {got} of {name}, not {ids}")
                if end != "mark":
                    return
            await stack.sql(f"ALTER TABLE {name} RENAME TO {name.replace('churn', 'churned')}")

    @staticmethod
    async def _rows_before(mark: int, table: str, client: SseClient) -> tuple[list[int], str]:
        """Return the ids that a client receives of a table, and what ends them: the row `mark` of
        `marks`, a resync, or a timeout.
        """
        got: list[int] = []
        while True:
            try:
                event = await client.next(ARRIVES_SECONDS)
            except TimeoutError:
                return got, "timeout"
            if event.type == "resync":
                return got, "resync"
            if event.type == "message":
                body = event.json()
                if body["table"] == table:
                    got.append(body["record"]["id"])
                elif body["record"]["id"] == mark:
                    return got, "mark"

    async def _rules(self) -> None:
        """Rules that change between rows: each row reaches exactly those who may see it."""
        stack = self._stack
        followers = {
            user: Follower(user, self._url, stack.token(user), "shifting,marks")
            for user in (ANN, BEN)
        }
        reading = [asyncio.create_task(f.run(), name="follower") for f in followers.values()]
        try:
            for number in itertools.count(1):
                if self._is_over.is_set():
                    return
                rule = self._chance.choice(list(RULES))
                await self._sql_at_last(f"{CLEAR} {RULES[rule][0]}")
                await self._insert("shifting", number, f", '{ANN}'")
                await self._insert("marks", number)
                for user, follower in followers.items():
                    if not await follower.has(("marks", number)):
                        self.wrong.append(f"mark {number} never reached {user}")
                        return
                    sees = ("shifting", number) in follower.rows
                    expected = user in RULES[rule][1]
                    # A resync excuses a row that is missing, and none that leaks.
                    if (sees and not expected) or (expected and not sees and not follower.resyncs):
                        self.wrong.append(f"{user}, row {number}, rule {rule}: sees it {sees}")
                    if follower.repeated:
                        self.wrong.append(f"{user} received rows twice: {follower.repeated}")
                        follower.repeated = []
                    follower.resyncs = 0
                self.rounds["rules"] += 1
                await self._pause(0.5)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _insert(self, table: str, number: int, more: str = "") -> None:
        """Insert a row exactly once, whatever happens to the server."""
        await self._sql_at_last(
            f"INSERT INTO {table} VALUES ({number}{more}) ON CONFLICT (id) DO NOTHING"
        )

    async def _sql_at_last(self, sql: str) -> None:
        """Run statements that may be run twice, as soon as there is a server."""
        while True:
            try:
                await self._stack.sql(sql)
            except GONE:
                await asyncio.sleep(0.2)
            else:
                return
