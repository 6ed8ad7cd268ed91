"""The round trips to Postgres that visibility is made of.

What their errors mean is said in `gateway.visibility.question_errors`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.packed_texts import PackedTexts, pack
from gateway.visibility.joined.setting_expressions import Builtins
from gateway.visibility.question_errors import (
    RULES_DIFFER,
    QuestionError,
    RulesChangedError,
    TableReadError,
    catalog_errors,
    question_errors,
)
from gateway.visibility.rules import Rules, decode_rules
from shared.pool import own_session
from shared.postgres import UNAVAILABLE
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.visibility.cohorts import Settings
    from shared.tasks import Spawn

_SQL: Final = queries("gateway.visibility")

_NO_TEXTS: Final = pack(())

_SESSIONS: Final = 10
"""How many sessions are tried: more than a pool usually has."""


@dataclass(frozen=True, slots=True)
class KnownRules:
    """Rules with their fingerprint."""

    rules: Rules
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What a question is about: a table as a role sees it, at a position in the log or later.

    `fingerprint` is that of the rules which must be in force.
    """

    relid: int
    role: str
    lsn: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class CohortQuestion:
    """A statement that is asked for each cohort by itself: see `ayb_realtime.ask_cohorts`.

    `images` are JSON: for the looped form, with the row type, the part that policies read; for the
    opaque form, with their keys and a statement that compares them, the rows as they are compared.
    `key` names the key's columns, and `seqs` are the images' changes: without a later one, a row
    that differs is undecidable. It is None where no later change is to be looked for.
    """

    statement: str
    images: Sequence[str]
    row_type: str | None = None
    compared: str | None = None
    key: Sequence[str] = ()
    keys: Sequence[Sequence[str | None]] = ()
    seqs: Sequence[int | None] = ()

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, stop: int) -> CohortQuestion:
        """Return the same question about some of the images."""
        return replace(
            self,
            images=self.images[start:stop],
            keys=self.keys[start:stop],
            seqs=self.seqs[start:stop],
        )


@dataclass(slots=True)
class LoopedAnswer:
    """What cohorts answered, each by itself; cohorts and images count from 0.

    `go_on` is the first cohort that was not asked, since the time was up. Images that a cohort does
    not see are missing in `seen`; `superseded` are those whose row it sees, though the row has
    changed since.
    `costs` are the seconds that each cohort took, as far as they are known.
    """

    undecidable: list[int]
    go_on: int | None = None
    costs: Sequence[float] = ()
    seen: dict[int, list[int]] = field(default_factory=dict)
    superseded: dict[int, list[int]] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)


class VisibilityQueries:
    """Asks through the read pool."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        names: Sequence[str] = KNOWN_SETTINGS,
        spawn: Spawn | None = None,
    ) -> None:
        """`names` are those of the settings that cohorts have values of."""
        self._pool = pool
        self._names = names
        self._spawn = spawn

    async def rules(self, relid: int, role: str) -> KnownRules | None:
        """Read the rules; None if table or role is gone.

        Raises `RulesChangedError` where they changed under the reading: what Postgres says of a
        column, function or schema that has just been dropped is NULL.
        """
        with catalog_errors():
            [row] = await self._fetch_own(_SQL["rules"], relid, role)
        if row["rules"] is None:
            return None
        try:
            return KnownRules(decode_rules(row["rules"]), row["fingerprint"])
        except msgspec.ValidationError as error:
            raise RulesChangedError from error

    async def catch_up(self, lsn: int) -> None:
        """Wait for a standby to have replayed a position; give up for now after half a second."""
        with catalog_errors():
            await self._fetch_own(_SQL["catch_up"], lsn)

    async def builtins(self) -> Builtins:
        """Read the names of pg_catalog's functions that see nothing but their arguments."""
        with catalog_errors():
            [row] = await self._fetch_own(_SQL["builtins"])
        return Builtins(frozenset(row["pure"]), frozenset(row["scalar"]))

    async def expression_types(
        self,
        subject: Subject,
        expressions: Sequence[str],
        is_set: Sequence[bool],
        settings: Sequence[str],
    ) -> tuple[list[str | None], list[str | None]]:
        """Read the types of expressions, and the present values of settings.

        A type is None where its values cannot be kept as text. Raises `QuestionError`, and
        `RulesChangedError` where other rules are in force than those of the subject: of several
        read servers, one may lag.
        """
        with question_errors():
            [row] = await self._fetch(
                _SQL["expression_types"],
                subject.role,
                expressions,
                is_set,
                settings,
                subject.relid,
                subject.fingerprint,
            )
        if not row["is_current"]:
            raise RulesChangedError
        return row["types"], row["settings"]

    async def cohort_values(
        self,
        subject: Subject,
        query: str,
        cohorts: Sequence[Settings],
        others: Sequence[str | None],
        *,
        is_own: bool = False,
    ) -> list[tuple[str | None, ...] | None]:
        """Compute values for cohorts by their settings; None for one for which they raise.

        `is_own` says that under the rules of the subject, no code of the database's users runs.

        Raises `QuestionError`, `RulesChangedError`.
        """
        about = (subject.lsn, subject.relid, subject.role, subject.fingerprint)
        try:
            with question_errors():
                rows = await self._fetch(
                    _SQL["cohort_values"],
                    *about,
                    query,
                    encode_settings(self._names, cohorts),
                    others,
                    is_own=is_own,
                )
        except QuestionError as error:
            if error.sqlstate == RULES_DIFFER:
                raise RulesChangedError from None
            raise
        return [None if row[0] is None else tuple(row[0]) for row in rows]

    async def readable_columns(self, relid: int, role: str) -> frozenset[str]:
        """Read which columns the role may read."""
        with catalog_errors():
            [row] = await self._fetch_own(_SQL["readable_columns"], relid, role)
        return frozenset(row[0])

    async def _fetch_own(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask what runs no code of the database's users, and so leaves nothing in the session."""
        return await self._fetch(query, *arguments, is_own=True)

    async def _fetch(
        self,
        query: str,
        *arguments: object,
        is_own: bool = False,
        check: Callable[[Sequence[asyncpg.Record]], object] = lambda _: None,
    ) -> list[asyncpg.Record]:
        """Ask, on another session where one turns out to be spoilt; raise what `check` raises."""
        for _ in range(_SESSIONS - 1):
            with contextlib.suppress(asyncpg.InvalidSQLStatementNameError):
                return await self._fetch_once(query, arguments, is_own=is_own, check=check)
        return await self._fetch_once(query, arguments, is_own=is_own, check=check)

    async def _fetch_once(
        self,
        query: str,
        arguments: Sequence[object],
        *,
        is_own: bool,
        check: Callable[[Sequence[asyncpg.Record]], object],
    ) -> list[asyncpg.Record]:
        """Ask, and give the connection back where nobody waits for it.

        After code of the database's users may have run, the pool resets the session first, a round
        trip of its own. That also goes for a question that turns out to have met other rules than
        expected: what it has run is not known.
        """
        if is_own:
            async with own_session(self._pool) as connection:
                rows = await _fetched(connection, query, arguments)
                check(rows)
                return rows
        connection = await self._pool.acquire()
        try:
            rows = await _fetched(connection, query, arguments)
            check(rows)
            return rows
        finally:
            if self._spawn is None:
                await self._pool.release(connection)
            else:
                self._spawn(self._give_back(connection), "reset session")

    async def _give_back(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        with contextlib.suppress(asyncpg.PostgresError, *UNAVAILABLE):
            await self._pool.release(connection)  # one that cannot be reset is closed

    async def joined(
        self,
        subject: Subject,
        question: str | None,
        *,
        images: Sequence[str] = (),
        kept: PackedTexts = _NO_TEXTS,
        others: Sequence[str | None] = (),
        computed: str | None = None,
        keys: str | None = None,
        settings: Sequence[Settings] = (),
        is_own: bool = False,
    ) -> list[tuple[int, list[int] | None, list[int] | None]]:
        """Ask the joined form: see `ayb_realtime.judge_joined`. Rows are (kind, images, cohorts).

        Without a question only the rules are compared. `is_own` says that under the rules of the
        subject, the question runs no code of the database's users. Raises `RulesChangedError`,
        `TableReadError`, `QuestionError`.
        """
        with catalog_errors() if question is None else question_errors():
            rows = await self._fetch(
                _SQL["judge_joined"],
                subject.lsn,
                subject.relid,
                subject.role,
                subject.fingerprint,
                question,
                kept.text,
                computed,
                keys,
                encode_settings(self._names, settings),
                others,
                images,
                kept.separator,
                kept.null,
                is_own=is_own or question is None,
                check=_check_joined,
            )
        return [(row["kind"], row["events"], row["cohorts"]) for row in rows]

    async def each(
        self,
        subject: Subject,
        question: CohortQuestion,
        cohorts: Sequence[Settings],
        *,
        budget_seconds: float,
        is_lenient: bool,
    ) -> LoopedAnswer:
        """Ask a question for each cohort by itself, as many as the time allows, one at least.

        Raises `RulesChangedError`, `TableReadError`, `QuestionError`, `DatabaseUnavailableError`.
        """
        settings = encode_settings(self._names, cohorts)
        about = (subject.lsn, subject.relid, subject.role, subject.fingerprint)
        limits = (dt.timedelta(seconds=budget_seconds), is_lenient)
        with question_errors():
            if question.row_type is not None:
                rows = await self._fetch(
                    _SQL["judge_looped"], *about, question.row_type, question.statement,
                    settings, question.images, *limits,
                )  # fmt: skip
            else:
                rows = await self._fetch(
                    _SQL["judge_opaque"], *about, question.statement, question.compared,
                    settings, question.images, question.key, _by_column(question.keys),
                    question.seqs, *limits,
                )  # fmt: skip
        last = rows[-1]
        if last["cohort"] == -1:
            raise RulesChangedError
        if last["cohort"] == -2:
            raise TableReadError
        changed = frozenset(n - 1 for n in last["superseded"] or ())
        answer = LoopedAnswer(
            undecidable=[n - 1 for n in last["visible"]],
            go_on=None if last["next_cohort"] is None else last["next_cohort"] - 1,
            costs=last["costs"] or (),
        )
        for row in rows[:-1]:
            cohort = row["cohort"] - 1
            numbers = [n - 1 for n in row["visible"] or ()]
            if seen := [n for n in numbers if n not in changed]:
                answer.seen[cohort] = seen
            if superseded := [n for n in numbers if n in changed]:
                answer.superseded[cohort] = superseded
            if row["failure"] is not None:
                answer.broken[cohort] = row["failure"]
        return answer

    async def latest_images(
        self, relid: int, key: Sequence[str], keys: Sequence[str]
    ) -> list[str | None]:
        """Read the image that the last change in the outbox left of each row, by its key."""
        with question_errors():
            [row] = await self._fetch(_SQL["latest_images"], relid, key, keys)
        return row[0] or []


async def _fetched(
    connection: asyncpg.pool.PoolConnectionProxy, query: str, arguments: Sequence[object]
) -> list[asyncpg.Record]:
    try:
        rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
    except asyncpg.InvalidSQLStatementNameError:
        # A policy's function has deallocated the statements that are kept prepared.
        connection.terminate()
        raise
    return rows


def _check_joined(rows: Sequence[asyncpg.Record]) -> None:
    """Raise if an answer of the joined form is to be discarded."""
    kinds = {row["kind"] for row in rows[-2:]}
    if -1 in kinds:
        raise RulesChangedError
    if -2 in kinds:
        raise TableReadError


def encode_settings(names: Sequence[str], cohorts: Sequence[Settings]) -> list[list[bytes]]:
    """Write settings as `ayb_realtime.assume_client` reads them: a row of names, a row per cohort.

    They are bytes, since the encoding of the database may have no place for a text.
    """
    return [[text.encode("utf-8", "surrogatepass") for text in row] for row in (names, *cohorts)]


def _by_column(keys: Sequence[Sequence[str | None]]) -> list[str | None]:
    """Write keys as one array: all values of the first column, then all of the second ..."""
    return [value for column in zip(*keys, strict=True) for value in column]
