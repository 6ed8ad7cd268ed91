"""Policies end to end: how far the last of many clients is behind while rows change all the time.

One gateway, a client for each of 1,000 users with large claims, and 4 transactions a second that
change 20 rows each. For every shape a stack of its own is started. At the end each client must have
received what a SELECT shows its user: each version of each row, or for an opaque table, where the
versions between may be superseded, at least the last. The figures are the delays from commit to
client in the last seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Final

import asyncpg
from jose import jwt

from bench.benchmarks.policy_shapes import ROLE, SCHEMA, SHAPES, Shape, rows
from bench.reports.figure import OURS
from bench.reports.measured import percentile
from bench.servers.stack import SECRET, BenchStack, StreamReader, open_stream, user_id

if TYPE_CHECKING:
    from bench.reports.report import Report
    from bench.size import Size

NAMES: Final = (
    "own row, wrapped",
    "membership by EXISTS, with RLS",
    "role by a definer",
    "definer given a column",
    "definer that looks the row up",
    "definer given a column, dynamic",
)
_USERS: Final = 1_000
_DOCS: Final = 200
_AT_ONCE: Final = 20
_PER_SECOND: Final = 4
_LAST_SECONDS: Final = 5
_CONNECTS_AT_ONCE: Final = 20
_CLAIM_BYTES: Final = 900


async def measure_streams(report: Report, size: Size) -> None:
    """Measure each shape of `NAMES`; fails if a client misses a row or gets one that is not its."""
    seconds = size.pick(full=60, quick=10, smoke=2)
    users = size.pick(full=_USERS, quick=_USERS, smoke=20)
    figure = report.figure(
        "policy-streams",
        f"{users:,} clients, {_AT_ONCE * _PER_SECOND} changes a second: the last client",
        "ms from commit to client",
    )
    for shape in SHAPES:
        if shape.name in NAMES[: size.pick(full=None, quick=None, smoke=1)]:
            last, everything = await _measure(shape, users, seconds)
            report.add(
                figure,
                shape.name,
                {OURS: last[-1]},
                note=f"median {percentile(last, 0.5):.0f}, in all {seconds} s {everything[-1]:.0f}",
            )
            bound = 2_000 if shape.form == "opaque" else 500
            report.expect(
                f"{shape.name}: the last client after {seconds} s",
                want=f"at most {bound} ms behind",
                got=f"{last[-1]:.0f} ms",
                holds=last[-1] <= bound,
            )


async def _measure(shape: Shape, users: int, seconds: int) -> tuple[list[float], list[float]]:
    """Return the delays in milliseconds, in order: those of the last seconds, and all."""
    schema = ";".join((SCHEMA, rows(users, _DOCS), *shape.policies))
    async with BenchStack(schema) as stack:
        streams = await _open(stack, users)
        writer = await asyncpg.connect(stack.postgres.dsn())
        committed = await _write(writer, seconds)
        shown = [await _shown(writer, number) for number in range(users)]
        await writer.close()
        newest = {doc: version for version, docs, _ in committed for doc in docs}
        await _until_read(streams, shown, newest)
        at_of = {version: at for version, _, at in committed}
        delays: list[tuple[int, float]] = []
        for stream, docs in zip(streams, shown, strict=True):
            delays += _check(shape, stream, docs, committed, at_of)
            stream.close()
    first_of_last = len(committed) - _LAST_SECONDS * _PER_SECOND
    return (
        sorted(delay for version, delay in delays if version > first_of_last),
        sorted(delay for _, delay in delays),
    )


def _claims(number: int) -> dict[str, object]:
    claims: dict[str, object] = {"sub": user_id(number), "exp": int(time.time()) + 3600}
    return claims | {"pad": "x" * (_CLAIM_BYTES - len(json.dumps(claims)))}


async def _open(stack: BenchStack, users: int) -> list[StreamReader]:
    streams: list[StreamReader] = []
    for start in range(0, users, _CONNECTS_AT_ONCE):
        tokens = [
            jwt.encode(_claims(number), SECRET)
            for number in range(start, start + _CONNECTS_AT_ONCE)
        ]
        streams += await asyncio.gather(
            *(open_stream(stack.port, f"/api/realtime?tables=docs&token={t}") for t in tokens)
        )
    return streams


async def _write(
    writer: asyncpg.Connection, seconds: int
) -> list[tuple[int, frozenset[int], float]]:
    """Return each version with the rows that have it, and the time after its commit."""
    update = await writer.prepare("UPDATE docs SET version = $1 WHERE id = ANY ($2::bigint[])")
    committed = []
    began = time.perf_counter()
    for version in range(1, seconds * _PER_SECOND + 1):
        start = version * _AT_ONCE % _DOCS
        docs = frozenset(range(start + 1, start + _AT_ONCE + 1))
        await asyncio.sleep(max(0.0, began + version / _PER_SECOND - time.perf_counter()))
        await update.fetch(version, list(docs))
        committed.append((version, docs, time.perf_counter()))
    return committed


async def _shown(connection: asyncpg.Connection, number: int) -> frozenset[int]:
    """Ask with a SELECT which rows a user sees."""
    async with connection.transaction(readonly=True):
        await connection.fetch(
            """SELECT set_config('ayb.user_id', $1, true),
                set_config('request.jwt.claims', $2, true), set_config('role', $3, true)""",
            user_id(number),
            json.dumps(_claims(number)),
            ROLE,
        )
        return frozenset(row["id"] for row in await connection.fetch("SELECT id FROM docs"))


async def _until_read(
    streams: list[StreamReader], shown: list[frozenset[int]], newest: dict[int, int]
) -> None:
    """Wait until each client has the newest version of each row that it sees."""
    async with asyncio.timeout(120):
        for stream, docs in zip(streams, shown, strict=True):
            while True:
                read = {(r["id"], r["version"]) for _, r in _records(stream)}
                if all((doc, newest[doc]) in read for doc in docs & newest.keys()):
                    break
                await asyncio.sleep(0.1)


def _check(
    shape: Shape,
    stream: StreamReader,
    docs: frozenset[int],
    committed: list[tuple[int, frozenset[int], float]],
    at_of: dict[int, float],
) -> list[tuple[int, float]]:
    """Compare what a client has read with what it should; return versions with their delays."""
    read = [(record["id"], record["version"], at) for at, record in _records(stream)]
    pairs = [(doc, version) for doc, version, _ in read]
    wanted = {(doc, version) for version, changed, _ in committed for doc in changed & docs}
    is_right = set(pairs) <= wanted if shape.form == "opaque" else set(pairs) == wanted
    if not is_right or len(set(pairs)) < len(pairs):
        raise SystemExit(f"{shape.name}: a client did not receive what a SELECT shows")
    return [(version, (at - at_of[version]) * 1000) for _, version, at in read]


def _records(stream: StreamReader) -> list[tuple[float, dict[str, int]]]:
    return [(at, json.loads(line)["record"]) for at, line in stream.changes()]
