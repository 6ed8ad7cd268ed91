"""A judge for each test: the real engine on a pool of the gateway's login."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import EVERYBODY, Answer, Image, Visibility
from shared.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.support.databases import Database

ROLE = "ayb_authenticated"


def settings(
    user: str = "", email: str = "", tenant: str = "", claims: str = ""
) -> tuple[str, ...]:
    return (user, email, tenant, claims)


@dataclass
class Seen:
    """An answer by member: the images that each sees, and the broken policies reported to each."""

    answer: Answer[Any]

    def by(self, member: object) -> set[int]:
        cohort = self._cohort(member)
        return {
            n
            for n, visible in enumerate(self.answer.visible)
            if visible is EVERYBODY or cohort in visible
        }

    def broken(self) -> set[object]:
        return {
            member
            for cohort in self.answer.broken
            for member in self.answer.grouping.members[cohort]
        }

    def _cohort(self, member: object) -> int:
        [found] = [n for n, m in enumerate(self.answer.grouping.members) if member in m]
        return found


class Recorder:
    """An observer that records what is reported to it."""

    def __init__(self) -> None:
        self.plans: list[tuple[str, str, str | None]] = []
        self.questions: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.differences = 0
        self.unchecked_because: list[str] = []

    def planned(self, table, role, form, reason) -> None:
        self.plans.append((table, str(form), reason))

    def asked(self, table, form, *, cohorts, events, seconds, rows) -> None:
        self.questions.append(str(form))

    def failed(self, table, form, sqlstate, cohorts) -> None:
        self.failures.append((str(form), sqlstate))

    def differed(self, table, images) -> None:
        self.differences += images

    def unchecked(self, table, sqlstate) -> None:
        self.unchecked_because.append(sqlstate)


@dataclass
class Engine:
    """What a test asks with."""

    database: Database
    admin: asyncpg.Connection
    pool: asyncpg.Pool
    visibility: Visibility
    recorder: Recorder

    async def relid(self, table: str) -> int:
        relid: int = await self.admin.fetchval("SELECT $1::text::regclass::oid", table)
        return relid

    async def images(self, table: str, where: str = "true") -> list[Image]:
        rows = await self.admin.fetch(
            f"SELECT row_to_json(t)::text FROM {table} t WHERE {where} ORDER BY 1"
        )
        return [Image(row[0].encode()) for row in rows]

    async def insert(self, table: str, *rows: dict[str, Any]) -> list[Image]:
        """Put rows into a table and return their images, as capture writes them."""
        await self.admin.fetch(
            f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1)",
            json.dumps(rows),
        )
        return [Image(json.dumps(row).encode()) for row in rows]

    async def ask(self, table, members, images, *, role=ROLE) -> Seen:
        """Ask for members given as a mapping to settings, about images or dicts."""
        audience: Audience[Any] = Audience(role)
        for member, values in members.items():
            audience.add(member, values)
        asked = [i if isinstance(i, Image) else Image(json.dumps(i).encode()) for i in images]
        relid = table if isinstance(table, int) else await self.relid(table)
        return Seen(await self.visibility.ask(relid, audience, asked, 0))


@contextlib.asynccontextmanager
async def gateway_pool(database: Database, **settings_: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(
        database.gateway_dsn,
        application_name="ayb-gateway",
        most=3,
        settings={
            "default_transaction_read_only": "on",
            "statement_timeout": "5000",
            "jit": "off",
            **settings_,
        },
    ) as pool:
        yield pool


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[Engine]:
    async with database.connect() as admin, gateway_pool(database) as pool:
        recorder = Recorder()
        yield Engine(database, admin, pool, Visibility(pool, observer=recorder), recorder)
