"""Whether the gateway may take traffic, and if not, what is wrong and what to do.

The gateway is ready when everything that a stream needs is well (the database, the outbox in it,
the roles that the settings name, the stream of batches) and it is not about to stop. The bus does
not count: without ticks the outbox is polled, which is slower but loses nothing.

A read replica that lags does not count either. It serves all gateways of its region, so the whole
region would be taken out at once, and its clients are better served late than not at all. Events
that are held for another reason count after `AYB_REALTIME_MAX_LAG_SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from shared import outbox
from shared.errors import OLDER_SCHEMA, DatabaseUnavailableError, SchemaError
from shared.postgres import unavailable_as_ours
from shared.sql import FUNCTIONS_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from gateway.fanout.bus import Bus
    from gateway.fanout.held import Held
    from gateway.fanout.hub import Hub
    from gateway.fanout.staleness_watch import StalenessWatch
    from gateway.streams.drain import Drain
    from gateway.tables.roles import Roles

    SpawnProbe = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]

OK: Final = "ok"
_PROBE_SECONDS: Final = 2.0
_FRESH_SECONDS: Final = 0.5
_UNKNOWN: Final = "unknown while the database is unavailable"


@dataclass(frozen=True, slots=True)
class Report:
    """The state of each part, `ok` or what is wrong, and how stale the read database is."""

    is_ready: bool
    staleness_seconds: float
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Probe:
    """What the database answered."""

    database: str
    outbox: str = _UNKNOWN
    roles: str = _UNKNOWN
    other_roles: str = OK


class Readiness:
    """Checks every part.

    `roles` are those that all clients, or all clients without a token, act as. `other_roles` are
    named by tokens alone: a fault of one of them is reported, but affects few, so the gateway stays
    ready.
    """

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        hub: Hub,
        bus: Bus,
        staleness: StalenessWatch,
        drain: Drain,
        role_check: Roles,
        roles: tuple[str, ...],
        other_roles: tuple[str, ...],
        max_lag_seconds: float,
        spawn: SpawnProbe,
    ) -> None:
        self._pool = pool
        self._hub = hub
        self._bus = bus
        self._staleness = staleness
        self._drain = drain
        self._role_check = role_check
        self._roles = roles
        self._other_roles = other_roles
        self._max_lag_seconds = max_lag_seconds
        self._spawn = spawn
        self._probe = _Probe("not asked yet")
        self._probed_at = float("-inf")
        self._probing: asyncio.Task[None] | None = None

    async def report(self) -> Report:
        """Check every part; the database at most twice a second."""
        probe = await self._probe_database()
        held = self._hub.held
        needed = {
            "database": probe.database,
            "outbox": probe.outbox,
            "roles": probe.roles,
            "stream": OK if self._hub.is_started else "waiting for the outbox",
            "events": OK if held is None else self._held_for(held),
            "drain": "draining" if self._drain.is_stopping else OK,
        }
        others = {"bus": self._say_bus(), "lag": self._say_lag()}
        if (rivals := self._staleness.rivals) is not None:
            others["relays"] = (
                f"two relays send ticks, of epochs {rivals[0]} and {rivals[1]}: "
                "fence the old primary"
            )
        if probe.other_roles != OK:
            others["other roles"] = probe.other_roles
        if self._pool.elsewhere is not None:
            others["read database"] = self._pool.elsewhere
        if self._pool.refusal is not None:
            others["new connections"] = self._pool.refusal
        tolerated = {"events"} if held is not None and self._is_tolerated(held) else set()
        is_ready = all(said == OK for name, said in needed.items() if name not in tolerated)
        return Report(is_ready, self._staleness.seconds, {**needed, **others})

    def _say_bus(self) -> str:
        if not self._bus.is_pushing:
            return "no ticks from relay or redis: polling the outbox"
        if self._staleness.ticks_are_late:
            return "ticks come later than the read database has their batches: reading the outbox"
        return OK

    def _say_lag(self) -> str:
        if not self._staleness.is_stale:
            return OK
        return f"stale for {self._staleness.seconds:.1f} s: {self._staleness.reason}"

    def _held_for(self, held: Held) -> str:
        return f"held for {time.monotonic() - held.since:.1f} s: {held.reason}"

    def _is_tolerated(self, held: Held) -> bool:
        return held.is_lag or time.monotonic() - held.since <= self._max_lag_seconds

    async def _probe_database(self) -> _Probe:
        if time.monotonic() - self._probed_at < _FRESH_SECONDS:
            return self._probe
        if self._probing is None or self._probing.done():
            self._probing = self._spawn(self._ask())
        # A frozen server delays even the end of a query; this answer must not wait for it.
        done, _ = await asyncio.wait([self._probing], timeout=_PROBE_SECONDS)
        return self._probe if done else _Probe("database unavailable: no answer")

    async def _ask(self) -> None:
        try:
            with unavailable_as_ours():
                async with asyncio.timeout(_PROBE_SECONDS):
                    self._probe = _Probe(
                        OK,
                        await self._ask_outbox(),
                        await self._ask_roles(self._roles),
                        await self._ask_roles(self._other_roles),
                    )
        except DatabaseUnavailableError as error:
            self._probe = _Probe(str(error))
        except asyncpg.PostgresError as error:
            self._probe = _Probe(f"refuses: {error}")
        self._probed_at = time.monotonic()

    async def _ask_outbox(self) -> str:
        try:
            async with self._pool.acquire() as connection:
                await outbox.log_state(connection)
                installed = await outbox.functions_version(connection)
            if installed < FUNCTIONS_VERSION:
                return f"{OLDER_SCHEMA} (version {installed} instead of {FUNCTIONS_VERSION})"
        except SchemaError as error:
            return str(error)
        except asyncpg.InsufficientPrivilegeError as error:
            return f"{error}: run as a superuser what `python -m relay roles` prints"
        return OK

    async def _ask_roles(self, roles: tuple[str, ...]) -> str:
        faults = [await self._role_check.fault_of(role) for role in roles]
        return "; ".join(fault for fault in faults if fault is not None) or OK
