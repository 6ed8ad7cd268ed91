"""What it costs to ask about policies of every shape, and whether the answers are right.

Each shape of `policy_shapes` is asked about for many users with large claims, and a number of
events. Beside it stands a SELECT by each user, measured for a sample and scaled to all. For the
sample the answers must be the same, else the benchmark fails. Times are the best of a few
repetitions, in milliseconds, after the values that are kept for each user are known; what computing
them took at the first question stands beside them. `db` is the CPU time of the database session,
which tells more than the time on the clock while other work runs on the machine.

Then come streams: see `bench.benchmarks.policy_streams`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.benchmarks.policy_shapes import ROLE, SCHEMA, SHAPES, Shape, rows, settings
from bench.benchmarks.policy_streams import measure_streams
from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.database import gateway_database
from bench.size import Size
from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import EVERYBODY, Answer, Image, Visibility

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from bench.reports.figure import Figure

_CPU: Final = "ours, CPU of the database"
_SELECT: Final = "a SELECT each"
_CLAIM_BYTES: Final = 900
_SAMPLE: Final = 50
_MOST_SECONDS: Final = 2.0
"""What takes longer is not repeated."""


def run(size: Size) -> Report:
    """Measure; fails if an answer is not what a SELECT shows."""
    report = Report("policies")
    asyncio.run(_measure(report, size))
    asyncio.run(measure_streams(report, size))
    report.checked = "Each answer that was compared is what a SELECT shows, and so is each stream."
    return report


async def _measure(report: Report, size: Size) -> None:
    async with gateway_database(SCHEMA) as (admin, pool):
        figures: dict[tuple[str, int, int], tuple[str, float, float]] = {}
        for users in size.pick(full=(1_000, 10_000), quick=(1_000,), smoke=(50,)):
            for events in size.pick(full=(1, 20, 1_000), quick=(20,), smoke=(20,)):
                await admin.execute(rows(users, events))
                what = f"{users:,} users, {events:,} event{'s' * (events > 1)}"
                figure = report.figure(
                    f"policies-{users}-{events}",
                    f"Policies of many shapes, {what}",
                    "ms a question",
                    peer=_SELECT,
                )
                for shape in SHAPES[:: size.pick(full=1, quick=1, smoke=8)]:
                    figures[shape.name, users, events] = await _case(
                        admin, pool, report, figure, shape, users=users
                    )
    if size is not Size.SMOKE:
        _expect(report, figures)


async def _case(
    admin: asyncpg.Connection,
    pool: asyncpg.Pool,
    report: Report,
    figure: Figure,
    shape: Shape,
    *,
    users: int,
) -> tuple[str, float, float]:
    for name in await admin.fetch(
        "SELECT polname FROM pg_policy WHERE polrelid = 'docs'::regclass"
    ):
        await admin.execute(f'DROP POLICY "{name[0]}" ON docs')
    for policy in shape.policies:
        await admin.execute(policy)
    relid = await admin.fetchval("SELECT 'docs'::regclass::oid")
    found = await admin.fetch("SELECT id, row_to_json(d)::text AS image FROM docs d ORDER BY id")
    images = [Image(row["image"].encode()) for row in found]
    audience: Audience[int] = Audience(ROLE)
    # What is not joined grows with the users: a part of them tells.
    asked = users if shape.form == "joined" else min(users, 200)
    for number in range(asked):
        audience.add(number, settings(number, _CLAIM_BYTES))
    visibility = Visibility(pool, loop_seconds=60)
    async with pool.acquire() as connection:
        session = connection.get_server_pid()
    began = time.perf_counter()
    answer = await visibility.ask(relid, audience, images, 0)
    first = best = time.perf_counter() - began
    cpu = float("inf")
    started = time.perf_counter()
    for _ in range(7):
        began, cpu_before = time.perf_counter(), _cpu_seconds(session)
        answer = await visibility.ask(relid, audience, images, 0)
        best = min(best, time.perf_counter() - began)
        cpu = min(cpu, _cpu_seconds(session) - cpu_before)
        if time.perf_counter() - started > _MOST_SECONDS:
            break
    sample = list(range(0, asked, max(1, asked // _SAMPLE)))
    alone_seconds = await _check(pool, shape, [row["id"] for row in found], sample, answer)
    plan = visibility.plan_of(relid, ROLE)
    form = "gone" if plan is None else str(plan.form)
    kind = form
    if plan is not None and form == "joined":
        kind = "joined, computed" if plan.computed else "joined, kept"
    milliseconds = best * 1000 * users / asked
    alone = alone_seconds * 1000 * users / len(sample)
    scaled = "" if asked == users else f" (from {asked})"
    report.add(
        figure,
        shape.name,
        {OURS: milliseconds, _CPU: cpu * 1000 * users / asked, _SELECT: alone},
        note=f"{kind}{scaled}; the first time {first * 1000 * users / asked:.1f}",
    )
    return form, milliseconds, cpu * 1e6 / asked


async def _check(
    pool: asyncpg.Pool, shape: Shape, ids: Sequence[int], sample: Sequence[int], answer: Answer[int]
) -> float:
    """Ask with a SELECT for each of a sample of users, and compare; return the seconds it took."""
    seconds = 0.0
    async with pool.acquire() as connection:
        for number in sample:
            began = time.perf_counter()
            async with connection.transaction(readonly=True):
                await connection.fetch(
                    """SELECT set_config('ayb.user_id', $1, true),
                        set_config('ayb.user_email', $2, true),
                        set_config('ayb.tenant_id', $3, true),
                        set_config('request.jwt.claims', $4, true), set_config('role', $5, true)""",
                    *settings(number, _CLAIM_BYTES),
                    ROLE,
                )
                shown = await connection.fetch("SELECT id FROM public.docs")
            seconds += time.perf_counter() - began
            if {row["id"] for row in shown} != _seen_by(answer, ids, number):
                raise SystemExit(f"{shape.name}: user {number} is not shown what a SELECT shows")
    return seconds


def _cpu_seconds(pid: int) -> float:
    """Read how much CPU time a process has used; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def _seen_by(answer: Answer[int], ids: Sequence[int], user: int) -> set[int]:
    grouping, visible = answer.grouping, answer.visible
    [cohort] = [n for n, members in enumerate(grouping.members) if user in members]
    return {row for row, who in zip(ids, visible, strict=True) if who is EVERYBODY or cohort in who}


def _expect(report: Report, figures: dict[tuple[str, int, int], tuple[str, float, float]]) -> None:
    joined = {shape for (shape, _, _), (form, _, _) in figures.items() if form == "joined"}
    report.expect(
        "shapes that are joined",
        want="at least 9 of 10",
        got=f"{len(joined)} of {len(SHAPES)}",
        holds=len(joined) * 10 >= len(SHAPES) * 9,
    )
    for users, bound in ((1_000, 15.0), (10_000, 40.0)):
        case = ("own row, wrapped", users, 20)
        if case in figures:
            report.expect(
                f"{case[0]}, {users} users, 20 events",
                want=f"at most {bound:g} ms",
                got=f"{figures[case][1]:.1f} ms",
                holds=figures[case][1] <= bound,
            )
    case = ("column = f()", 1_000, 20)
    report.expect(
        f"{case[0]}, CPU time of the database for each user",
        want="at most 45 us",
        got=f"{figures[case][2]:.1f} us",
        holds=figures[case][2] <= 45,
    )
