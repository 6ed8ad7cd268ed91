"""What it costs to ask Postgres who may see a batch of events.

Cohorts of one user each, and events of one table, under common policies: the joined form, the
looped form, and one transaction per user that asks for the same rows under RLS. The transactions,
and the looped form where it would take minutes, are measured for some of the users and scaled to
all of them (the case says so). All three must find the same rows for the same users, or the
benchmark fails. Times are the best of a few repetitions, in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.database import gateway_database
from bench.size import Size
from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import EVERYBODY, Answer, Image, Visibility

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import asyncpg

    from bench.reports.figure import Figure
    from gateway.visibility.answer import Visible

T = TypeVar("T")
_ROLE: Final = "ayb_authenticated"
_TENANTS: Final = 50
_MOST_ALONE: Final = 200
"""For how many users a transaction is actually run."""
_MOST_LOOPED: Final = 1_000
"""For how many cohorts the looped form is actually run, if there are more than 100 events."""

_MOST_SECONDS: Final = 2.0
"""A case that takes longer than this is not repeated."""

_SCHEMA: Final = """
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO ayb_authenticated;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT (NULLIF(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::uuid
$$;
CREATE TABLE members (project int NOT NULL, user_id uuid NOT NULL, PRIMARY KEY (user_id, project));
INSERT INTO members
    SELECT n % 200, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid
    FROM generate_series(0, 9999) AS n;
CREATE TABLE secured_members (LIKE members INCLUDING ALL);
INSERT INTO secured_members SELECT * FROM members;
ALTER TABLE secured_members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secured_members USING (user_id = current_setting('ayb.user_id')::uuid);
GRANT SELECT ON members, secured_members TO ayb_authenticated;
ANALYZE members, secured_members;
"""

_POLICIES: Final = {
    "author": "author_id = current_setting('ayb.user_id')::uuid",
    "(SELECT auth.uid())": "author_id = (SELECT auth.uid())",
    "tenant": "tenant = current_setting('ayb.tenant_id')::int",
    "published OR author": "published OR author_id = current_setting('ayb.user_id')::uuid",
    "membership": """EXISTS (SELECT FROM members m WHERE m.project = posts.project
        AND m.user_id = current_setting('ayb.user_id')::uuid)""",
    "membership with RLS": """EXISTS (SELECT FROM secured_members m
        WHERE m.project = posts.project AND m.user_id = current_setting('ayb.user_id')::uuid)""",
}


def run(size: Size) -> Report:
    """Measure; fail if the three ways to ask disagree."""
    report = Report("visibility")
    asyncio.run(_measure(report, size))
    return report


@dataclass
class _Bench:
    admin: asyncpg.Connection
    pool: asyncpg.Pool
    joined: Visibility
    looped: Visibility
    relid: int = 0

    async def prepare(self, policy: str, events: int) -> list[Image]:
        """Recreate the table with this many rows and this policy."""
        await self.admin.execute(
            f"""
            DROP TABLE IF EXISTS posts;
            CREATE TABLE posts (id bigint PRIMARY KEY, author_id uuid, title text, published bool,
                tenant int, project int, created_at timestamptz DEFAULT now());
            GRANT SELECT ON posts TO ayb_authenticated;
            INSERT INTO posts
                SELECT n, ('00000000-0000-4000-8000-' || lpad((n * 7)::text, 12, '0'))::uuid,
                    'Title ' || n, n % 2 = 0, n % {_TENANTS}, n % 200
                FROM generate_series(1, {events}) AS n;
            ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON posts USING ({policy});
            ANALYZE posts;
            """
        )
        self.relid = await self.admin.fetchval("SELECT 'posts'::regclass::oid")
        rows = await self.admin.fetch("SELECT row_to_json(p)::text FROM posts p ORDER BY id")
        return [Image(row[0].encode()) for row in rows]


async def _measure(report: Report, size: Size) -> None:
    async with gateway_database(_SCHEMA) as (admin, pool):
        bench = _Bench(
            admin,
            pool,
            Visibility(pool, loop_seconds=60),
            Visibility(pool, loop_seconds=60, is_joining=False),
        )
        figures = await _cases(bench, report, size)
    _expect(report, figures)


async def _cases(bench: _Bench, report: Report, size: Size) -> dict[str, dict[str, float]]:
    figure = report.figure(
        "visibility", "Who may see a batch", "ms a question", peer="a transaction each"
    )
    figures: dict[str, dict[str, float]] = {}
    for name, policy in _POLICIES.items():
        for events in size.pick(full=(1, 10, 100, 1_000), quick=(10, 100), smoke=(10,)):
            images = await bench.prepare(policy, events)
            for cohorts in size.pick(full=(10, 1_000, 10_000), quick=(1_000, 10_000), smoke=(100,)):
                case = f"{name}, {cohorts} users, {events} events"
                figures[case] = await _case(
                    bench, report, figure, case=case, images=images, users=cohorts, size=size
                )
    return figures


async def _case(
    bench: _Bench,
    report: Report,
    figure: Figure,
    *,
    case: str,
    images: list[Image],
    users: int,
    size: Size,
) -> dict[str, float]:
    is_short = size is not Size.FULL
    repetitions = 3 if is_short else 7
    audience = _audience(users)
    joined, joined_ms = await _best(
        repetitions, lambda: bench.joined.ask(bench.relid, audience, images, 0)
    )
    work = users * len(images)
    looped_users = min(users, _MOST_LOOPED if work > 1_000_000 or is_short else users)
    part = _audience(looped_users)
    looped, looped_ms = await _best(
        1 if work > 10_000 else 3, lambda: bench.looped.ask(bench.relid, part, images, 0)
    )
    alone_users = min(users, 50 if is_short else _MOST_ALONE)
    alone, alone_ms = await _best(1, lambda: _one_by_one(bench.pool, alone_users))
    _check(case, joined, looped, range(looped_users))
    for user in range(alone_users):
        if _seen_by(joined, user) != alone[user]:
            raise SystemExit(f"{case}: user {user} does not see what a SELECT shows")
    figures = {
        "ms": joined_ms,
        "looped ms": looped_ms * users / looped_users,
        "alone ms": alone_ms * users / alone_users,
    }
    plan = bench.joined.plan_of(bench.relid, _ROLE)
    form = "" if plan is None else plan.form
    report.add(
        figure,
        case if form == "joined" else f"{case} [{form}]",
        {
            OURS: joined_ms,
            "looped": figures["looped ms"],
            "a transaction each": figures["alone ms"],
        },
        note=f"from {looped_users} and {alone_users} users",
    )
    return figures


def _audience(users: int) -> Audience[int]:
    audience: Audience[int] = Audience(_ROLE)
    for number in range(users):
        audience.add(number, _settings(number))
    return audience


def _settings(number: int) -> tuple[str, str, str, str]:
    user = str(uuid.UUID(f"00000000-0000-4000-8000-{number:012d}"))
    claims = json.dumps({"sub": user, "tenantId": str(number % _TENANTS), "exp": 1_900_000_000})
    return (user, f"user{number}@example.com", str(number % _TENANTS), claims)


async def _best(times: int, ask: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    best = float("inf")
    started = time.perf_counter()
    if times > 1:
        await ask()
    while True:
        began = time.perf_counter()
        answer = await ask()
        now = time.perf_counter()
        best = min(best, (now - began) * 1000)
        times -= 1
        if times < 1 or now - started > _MOST_SECONDS:
            break
    return answer, best


async def _one_by_one(pool: asyncpg.Pool, users: int) -> list[set[int]]:
    """Run one transaction per user, as simpler systems do: set the user, then SELECT."""
    seen = []
    async with pool.acquire() as connection:
        for number in range(users):
            async with connection.transaction(readonly=True):
                await connection.fetch(
                    """SELECT set_config('role', 'ayb_authenticated', true),
                        set_config('ayb.user_id', $1, true), set_config('ayb.user_email', $2, true),
                        set_config('ayb.tenant_id', $3, true),
                        set_config('request.jwt.claims', $4, true)""",
                    *_settings(number),
                )
                rows = await connection.fetch("SELECT id FROM public.posts")
            seen.append({row["id"] - 1 for row in rows})
    return seen


def _seen_by(answer: Answer[int], user: int) -> set[int]:
    [cohort] = [n for n, members in enumerate(answer.grouping.members) if user in members]
    return {n for n, who in enumerate(answer.visible) if who is EVERYBODY or cohort in who}


def _check(case: str, one: Answer[int], other: Answer[int], users: Sequence[int]) -> None:
    wanted = set(users)
    for n, (who, else_who) in enumerate(zip(one.visible, other.visible, strict=True)):
        if _members(one, who) & wanted != _members(other, else_who) & wanted:
            raise SystemExit(f"{case}: the forms disagree on event {n}")


def _members(answer: Answer[int], who: Visible) -> set[int]:
    members = answer.grouping.members
    numbers = range(len(members)) if who is EVERYBODY else who
    return {member for n in numbers for member in members[n]}


def _expect(report: Report, figures: dict[str, dict[str, float]]) -> None:
    for case, bound in (
        ("author, 10000 users, 10 events", 15.0),
        ("author, 10000 users, 1000 events", 25.0),
        ("published OR author, 10000 users, 100 events", 25.0),
    ):
        if case in figures:
            got = figures[case]["ms"]
            report.expect(
                case, want=f"at most {bound:g} ms", got=f"{got:.1f} ms", holds=got <= bound
            )
    case = "author, 10000 users, 100 events"
    if case in figures:
        ratio = figures[case]["looped ms"] / figures[case]["ms"]
        report.expect(
            f"{case}: joined against looped",
            want="over 100 times faster",
            got=f"{ratio:.0f} times",
            holds=ratio > 100,
        )
