"""A storm: all clients come back at once after the gateway was restarted.

Every client is a user of its own and shows the position that it had, 30 changes ago. A third of
these are for everybody, the others for one user each. Measured are the seconds from the first
connect until the last client has everything that it missed, and the statements that the gateway
sent to Postgres meanwhile (its login's calls in pg_stat_statements, BEGIN and COMMIT included). The
load client opens 200 streams at a time and runs on the same machine.

Nothing may be lost or doubled: the events of each client are counted, and the numbers in them
summed up.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.load.files import too_many_streams
from bench.load.programs import LoadClient
from bench.meters.process_cpu import cpu_seconds
from bench.reports.figure import OURS
from bench.reports.report import NotPossibleError, Report
from bench.reports.tables import number
from bench.servers.stack import POSTS, USER, BenchStack, open_stream

if TYPE_CHECKING:
    from bench.size import Size

MISSED: Final = 30
_MARKER: Final = '"record":{"id":'
_PATH: Final = "/api/realtime?tables=posts"
_WANTED_SECONDS: Final = 2.0
_WANTED_STATEMENTS: Final = 50
_TOO_LONG_SECONDS: Final = 120
_SETTLE_SECONDS: Final = 0.5


def run(size: Size) -> Report:
    """Measure; fails if a client lacks an event, or has one twice or one of another user."""
    report = Report("storm")
    asyncio.run(_measure(report, size))
    report.checked = "Each client received what it had missed, once, and nothing else."
    return report


async def _measure(report: Report, size: Size) -> None:
    clients = size.pick(full=10_000, quick=1_000, smoke=20)
    if reason := too_many_streams(clients):
        raise NotPossibleError(reason)
    seconds: list[float] = []
    statements: list[float] = []
    cpu: list[float] = []
    async with AsyncExitStack() as exits:
        stack = await exits.enter_async_context(
            BenchStack(
                POSTS,
                environment={
                    "AYB_REALTIME_MAX_CONNECTIONS": str(clients + 100),
                    "AYB_REALTIME_HEARTBEAT_SECONDS": "3600",
                },
                postgres_settings={"shared_preload_libraries": "pg_stat_statements"},
            )
        )
        admin = await asyncpg.connect(stack.postgres.dsn())
        exits.push_async_callback(admin.close)
        await admin.execute("CREATE EXTENSION pg_stat_statements")
        storm = Storm(stack, admin, clients)
        for number in range(size.pick(full=5, quick=3, smoke=1)):
            await storm.miss()
            await stack.restart_gateway()
            before = await storm.statements()
            cpu_before = cpu_seconds(stack.gateway_pid)
            seconds.append(await storm.come_back(exits))
            cpu.append((cpu_seconds(stack.gateway_pid) - cpu_before) / clients * 1e6)
            after = await storm.statements()
            statements.append(after - before)
            report.say(f"storm {number + 1}: {seconds[-1]:.2f} s, {statements[-1]:.0f} statements")
    _add(report, clients, seconds, statements, cpu)


class Storm:
    """Clients that miss changes and come back, time and again."""

    def __init__(self, stack: BenchStack, admin: asyncpg.Connection, clients: int) -> None:
        self._stack, self._admin, self._clients = stack, admin, clients
        self._tokens = stack.tokens(clients)
        self._next_id = 1
        self._position = ""
        self._rows: list[tuple[int, int, bool]] = []

    async def miss(self) -> None:
        """Note the position of now, and write rows that nobody is there to receive."""
        path = f"{_PATH}&token={self._tokens[0]}"
        reader = await open_stream(self._stack.port, path)
        self._position = reader.last_event_id()
        first, self._next_id = self._next_id, self._next_id + MISSED
        self._rows = [
            (first + number, number % self._clients, number % 3 == 0) for number in range(MISSED)
        ]
        for id_, author, is_public in self._rows:
            await self._admin.execute(
                "INSERT INTO posts (id, author_id, title, published) VALUES ($1, $2, 'New', $3)",
                id_,
                USER.format(author),
                is_public,
            )
        seen = sum(is_public or author == 0 for _, author, is_public in self._rows)
        async with asyncio.timeout(_TOO_LONG_SECONDS):
            while reader.frames < seen:
                await asyncio.sleep(0.02)
        reader.close()

    async def come_back(self, exits: AsyncExitStack) -> float:
        """Open all streams with that position; return the seconds until all are complete."""
        client = await exits.enter_async_context(LoadClient(self._stack.port, marker=_MARKER))
        await client.use_tokens(self._tokens)
        wanted = self._wanted()
        await client.forget()
        await client.open(
            self._clients, _PATH, Authorization="Bearer %t", Last_Event_ID=self._position
        )
        together = sum(count for count, _ in wanted)
        report = await client.total(together, seconds=_TOO_LONG_SECONDS)
        await asyncio.sleep(_SETTLE_SECONDS)  # what should not come would come now
        if await client.sums() != wanted:
            raise RuntimeError("a client did not receive what it had missed, once")
        await client.close_all()
        return report.seconds

    async def statements(self) -> int:
        """Return how many statements the gateway has sent so far."""
        counted: int = await self._admin.fetchval(
            """SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s
                JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = 'ayb_gateway'"""
        )
        return counted

    def _wanted(self) -> list[tuple[int, int]]:
        """Return how many events each client missed, and the sum of their numbers."""
        public = [id_ for id_, _, is_public in self._rows if is_public]
        wanted = [(len(public), sum(public))] * self._clients
        for id_, author, is_public in self._rows:
            if not is_public:
                count, total = wanted[author]
                wanted[author] = (count + 1, total + id_)
        return wanted


def _add(
    report: Report,
    clients: int,
    seconds: list[float],
    statements: list[float],
    cpu: list[float],
) -> None:
    label = f"{clients:,} clients"
    taken = report.figure("storm", "All come back after a restart", "s until all are complete")
    report.add(taken, label, {OURS: seconds}, note=f"gateway {statistics.median(cpu):.0f} µs each")
    asked = report.figure(
        "storm-statements", "All come back: what the gateway asks Postgres", "statements"
    )
    report.add(asked, label, {OURS: statements})
    for what, values, wanted, unit in (
        ("all are complete", seconds, _WANTED_SECONDS, "s"),
        ("the gateway's statements", statements, _WANTED_STATEMENTS, "statements"),
    ):
        got = statistics.median(values)
        report.expect(
            f"{what}, {label}",
            want=f"at most {wanted:g} {unit}",
            got=f"{number(got)} {unit}",
            holds=got <= wanted,
        )
