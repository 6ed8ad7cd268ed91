"""One active relay: the session that the row of `ayb_realtime.leader` names.

A session is known by its process id and the time it began, which nobody can forge, and the row
can be written by the relay's login alone: unlike an advisory lock, which any login can take. The
lead ends with the session. Batches are numbered in that session only, and each record of a batch
checks and locks the row, so two relays never number at once, whatever each believes.

A relay can vanish without its session ending: its host loses power, or a proxy keeps the
connection open. So the leader renews the row every second. A standby ends the session of a
leader that has been silent for `SILENT_SECONDS` while Postgres waited for it as long
(`relay.session.silence`); a session that is at work (a burst takes its time) is left alone.

A standby asks now and then instead of waiting for a lock: a waiting statement would hold a
snapshot, and so keep vacuum from cleaning the whole database. A leader that gives the lead up wakes
the standbys by NOTIFY.

Every relay reports its priority and its round trip to Postgres. If one that should lead instead
(`better_relay.sql`) has been ready for a while, the leader hands over to it after a whole batch. It
waits longer if earlier hand-overs did not last (`relay.session.patience`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from relay.session.patience import Patience
from relay.session.silence import LeaderSign, Silence
from relay.session.wakeup import LEAD_CHANNEL
from shared.errors import DatabaseUnavailableError
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg import Connection, Record

log = structlog.get_logger(__name__)

STANDBY_SECONDS: Final = 0.5
SILENT_SECONDS: Final = 10.0
HEARTBEAT_SECONDS: Final = 1.0
"""How often the leader renews its row. Every replica receives the row, so its age there is what a
gateway measures the replica's staleness by while nothing else is written."""

LEASE_SECONDS: Final = 15.0
"""A session that may be the leader's, but whose start cannot be read, counts for this long after
the lead was last renewed."""

_HEAD_START_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 10.0
_PINGS: Final = 3
_ROUND_TRIPS: Final = 10

_SQL: Final = queries("relay.session")


def _own_name() -> str:
    return f"{socket.gethostname()}, process {os.getpid()}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A relay as the others see it. Of two, the one with the higher priority should lead."""

    priority: int = 0
    redis_up: Callable[[], int] = lambda: 0
    """Counts the Redis servers that it reaches."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    name: str = field(default_factory=_own_name)


class Leadership:
    """The lead, held by the session of one connection."""

    def __init__(
        self,
        connection: Connection,
        candidate: Candidate | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._connection = connection
        self._candidate = candidate or Candidate()
        self._patience = patience or Patience()
        self._held_at = float("-inf")
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._better: str | None = None
        self._better_since = 0.0

    async def wait(self, note: Callable[[str | None], None], freed: asyncio.Event) -> None:
        """Wait until this session leads; `note` gets the relay that leads meanwhile.

        `freed` is set when a leader has given the lead up. Raises `TimeoutError` if the connection
        does not answer.
        """
        await self._measure()
        is_standby = False
        silence = Silence()
        while True:
            freed.clear()
            row = await self._stand_by()
            if row["is_leading"]:
                break
            if not is_standby:
                is_standby = True
                log.info("standing by", leader=row["name"])
            sign = _sign(row)
            silent_seconds = silence.observe(sign, time.monotonic())
            note(_describe(row, silent_seconds))
            if sign is not None and silent_seconds > SILENT_SECONDS:
                await self._end_silent_leader(sign)
            await _set_within(freed, STANDBY_SECONDS)
        note(None)
        self._held_at = time.monotonic()
        self._patience.on_lead(self._held_at)
        log.info("leading")

    async def hold(self) -> None:
        """Renew the lead if that is due; raises `DatabaseUnavailableError` if it is lost."""
        now = time.monotonic()
        if now - self._held_at < HEARTBEAT_SECONDS:
            return
        self._held_at = now
        row = await self._connection.fetchrow(_SQL["hold_lead"], *self._state())
        self._round_trips.append(time.monotonic() - now)
        if row is None:
            raise DatabaseUnavailableError("the lead has been lost")
        if row["better"] is None:
            self._better = None
        elif self._better is None:
            self._better, self._better_since = row["better"], now
        else:
            self._better = row["better"]

    @property
    def successor(self) -> str | None:
        """The relay that should have the lead now; None if that is this one."""
        is_due = time.monotonic() - self._better_since >= self._patience.seconds
        return self._better if is_due else None

    async def release(self, successor: str | None = None) -> None:
        """Give the lead up, to the relay `successor` or to any that stands by.

        Nothing may be under way on the connection, and nothing is recorded after this.
        """
        await self._connection.execute(
            _SQL["release_lead"], successor, LEAD_CHANNEL, timeout=_ANSWER_SECONDS
        )
        if successor is not None:
            self._patience.on_hand_over(time.monotonic())
        log.info("the lead was given up", successor=successor)

    async def _measure(self) -> None:
        for _ in range(_PINGS):
            began = time.monotonic()
            await self._connection.fetchval(_SQL["ping"], timeout=_ANSWER_SECONDS)
            self._round_trips.append(time.monotonic() - began)

    def _state(self) -> tuple[object, ...]:
        us = self._candidate
        round_trip_ms = min(self._round_trips, default=0.0) * 1000
        return us.id, us.name, us.priority, round_trip_ms, us.redis_up()

    async def _stand_by(self) -> Record:
        began = time.monotonic()
        row = await self._connection.fetchrow(
            _SQL["stand_by"],
            *self._state(),
            LEASE_SECONDS,
            _HEAD_START_SECONDS,
            timeout=_ANSWER_SECONDS,
        )
        self._round_trips.append(time.monotonic() - began)
        return row

    async def _end_silent_leader(self, sign: LeaderSign) -> None:
        try:
            is_ended = await self._connection.fetchval(
                _SQL["end_silent_leader"],
                sign.pid,
                sign.heard_at,
                sign.idle_since,
                timeout=_ANSWER_SECONDS,
            )
        except asyncpg.InsufficientPrivilegeError as error:
            log.warning("the leader is silent, and its session cannot be ended", error=str(error))
        else:
            if is_ended:
                log.warning("the leader was silent: its session has been ended")


def _sign(row: Record) -> LeaderSign | None:
    return (
        None if row["pid"] is None else LeaderSign(row["pid"], row["heard_at"], row["idle_since"])
    )


def _describe(row: Record, silent_seconds: float) -> str | None:
    if row["pid"] is None:
        return "standing by: no relay leads, and a better one has a head start"
    # By the server's clock, which knows of a silence before this relay looked, and may be set back.
    seconds = max(row["silent_seconds"], silent_seconds)
    return (
        f"standing by: {row['name']} (pid {row['pid']} at the server) leads since "
        f"{row['since']:%Y-%m-%dT%H:%M:%SZ}, last heard of {seconds:.0f} s ago"
    )


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, at most this long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
