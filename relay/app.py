"""The relay's life cycle: connect, lead, read and publish; start over after losing the database."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.loop import Loop
from relay.outbox.epoch import ensure_epoch
from relay.outbox.reader import Outbox
from relay.outbox.remainder import BatchLimits
from relay.outbox.rotation import Rotation, RotationLimits
from relay.publisher import Publisher
from relay.rival_watch import RivalWatch
from relay.schema.migrate import migrate, missing_scripts
from relay.session.leader import Candidate, Leadership
from relay.session.notify_queue import NotifyQueue
from relay.session.patience import Patience
from relay.session.wakeup import KEEPALIVE, Listener, SleepLock, may_notify
from relay.session.watchdog import Session, Watchdog
from shared.backoff import Backoff
from shared.errors import DatabaseUnavailableError, SchemaError, first_error
from shared.outbox import log_state
from shared.postgres import UNAVAILABLE, connect
from shared.tasks import end
from shared.tracing import NO_TRACING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection

    from relay.capture.triggers import Table
    from relay.health import Health
    from relay.metrics import RelayMetrics
    from relay.settings import RelaySettings
    from shared.tracing import Tracing

log = structlog.get_logger(__name__)

_NAMED_TABLES: Final = 10
_STEADY_SECONDS: Final = 60.0
"""A relay that has led for so long is tried again at once after a failure; another one waits longer
each time, so that a standby can take over from a leader that keeps failing."""

_COMMAND_SECONDS: Final = 300.0
"""After this long without an answer the server counts as gone, even if its socket is open."""

SESSION: Final = {
    "search_path": "pg_catalog",
    "timezone": "UTC",
    **KEEPALIVE,
    # The next start detects a lost batch (relay.outbox.epoch); commits need not wait for the disk.
    "synchronous_commit": "off",
    # A few statements that always use their index: never replanned, and not based on statistics.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
    # Reading a batch takes less time than forking a worker.
    "max_parallel_workers_per_gather": "0",
}


@dataclass(frozen=True, slots=True)
class _Connections:
    """What a relay connects before it takes the lead."""

    reader: Connection
    side: Connection
    listener: Listener


class _LeadReleasedError(Exception):
    """The lead was given up on purpose."""


class Relay:
    """The whole relay, assembled from settings."""

    def __init__(
        self,
        settings: RelaySettings,
        *,
        health: Health,
        metrics: RelayMetrics,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        self._health = health
        self._metrics = metrics
        self._address = settings.database
        self._patterns = [parse_pattern(text) for text in settings.realtime_tables]
        self._lost: Session | None = None
        self._trouble: str | None = None
        self._keep_seconds = min(
            settings.relay_scan_seconds, settings.realtime_retention_seconds / 20
        )
        key = settings.realtime_bus_key
        key_bytes = None if key is None else key.get_secret_value().encode()
        urls = [url.get_secret_value() for url in settings.redis_url]
        self._has_led = False
        self._publisher = Publisher(
            urls,
            key=key_bytes,
            channel_prefix=settings.realtime_channel_prefix,
            queue_bytes=settings.relay_queue_bytes,
            metrics=metrics,
            note=health.note,
        )
        self._candidate = Candidate(settings.relay_priority, lambda: self._publisher.targets_up)
        self._rival_watch = RivalWatch(
            urls,
            self._publisher,
            self._candidate,
            key=key_bytes,
            channel_prefix=settings.realtime_channel_prefix,
            metrics=metrics,
            note=health.note,
        )
        self._patience = Patience()
        self._loop: Loop | None = None
        self._retiring = asyncio.Event()
        self._released = asyncio.Event()

    async def run(self) -> None:
        """Relay until cancelled. Raises `OperatorError` for problems only an operator can fix."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._publisher.run(), name="publisher"),
                group.create_task(self._rival_watch.run(), name="rivals"),
                group.create_task(self._lead_for_ever(), name="leader"),
            ]
            try:
                await asyncio.wait(tasks)
            finally:
                await end(tasks)

    async def retire(self) -> None:
        """Give the lead up after a whole batch, if this relay has it, and do not take it again.

        A relay that is about to end calls this, so that a standby takes over at once.
        """
        self._retiring.set()
        if self._loop is not None:
            self._loop.stop()
            await self._released.wait()

    async def _lead_for_ever(self) -> None:
        backoff = Backoff(most_seconds=2.0)
        while not self._retiring.is_set():
            try:
                await self._connect_and_lead(backoff)
            except* _LeadReleasedError:
                backoff.reset()
            except* UNAVAILABLE as group:
                self._note_trouble(first_error(group))
            except* asyncpg.PostgresError as group:
                # No error from Postgres ends a relay that has led: the cause can be fixed while it
                # runs. A relay that lacks the privileges even to start logs the error and exits.
                error = first_error(group)
                if isinstance(error, asyncpg.InsufficientPrivilegeError) and not self._has_led:
                    raise
                self._note_trouble(error)
            self._metrics.database_up.set(0)
            self._metrics.leading.set(0)
            self._metrics.sleeping.set(0)
            if self._retiring.is_set():
                return
            self._metrics.restarts.inc()
            await asyncio.sleep(backoff.next_seconds())

    def _note_trouble(self, error: BaseException) -> None:
        """Report why there is no connection; log it once, and again when the reason changes."""
        reason = str(error) or type(error).__name__
        if not reason.startswith("database unavailable"):
            reason = f"database unavailable: {reason}"
        self._health.not_ready(reason)
        if reason != self._trouble:
            self._trouble = reason
            log.warning("database unavailable", error=reason.removeprefix("database unavailable: "))

    async def _connect_and_lead(self, backoff: Backoff) -> None:
        reader = await self._connect("ayb-relay")
        side: Connection | None = None
        listener: Listener | None = None
        try:
            self._health.ready()
            self._metrics.database_up.set(1)
            if self._trouble is not None:
                self._trouble = None
                log.info("database connected")
            if self._lost is not None:
                await self._lost.end(reader)
            self._lost = session = await Session.of(reader)
            await self._prepare_schema(reader)
            # Everything is connected before the lead is taken: a leader that had yet to connect,
            # to a slow server, could be silent for long enough to be ended.
            side = await self._connect("ayb-relay side")
            listener = await Listener.open(self._address, self._metrics)
            leadership = Leadership(reader, self._candidate, self._patience)
            async with asyncio.TaskGroup() as group:
                group.create_task(listener.watch(), name="listener")
                await leadership.wait(
                    lambda text: self._health.note("leader", text), listener.lead_freed
                )
                await self._lead(
                    _Connections(reader, side, listener),
                    leadership,
                    Watchdog(self._address, session),
                    backoff,
                )
        finally:
            self._rival_watch.end()
            for part in ("leader", "sleep", "notifications", "tables"):
                self._health.note(part, None)
            reader.terminate()
            if side is not None:
                side.terminate()
            if listener is not None:
                await listener.close()

    async def _connect(self, name: str) -> Connection:
        return await connect(
            self._address,
            application_name=name,
            settings=SESSION,
            command_seconds=_COMMAND_SECONDS,
        )

    async def _prepare_schema(self, reader: Connection) -> None:
        """Migrate before taking the lead: the row that names the leader is in the schema."""
        if self._settings.relay_install:
            await migrate(reader)
        elif missing := await missing_scripts(reader):
            raise SchemaError(
                f"the schema ayb_realtime lacks {', '.join(script.name for script in missing)}: "
                "run `python -m relay install`"
            )

    async def _lead(
        self,
        connections: _Connections,
        leadership: Leadership,
        watchdog: Watchdog,
        backoff: Backoff,
    ) -> None:
        settings, metrics = self._settings, self._metrics
        reader, side, listener = connections.reader, connections.side, connections.listener
        epoch = await ensure_epoch(reader)
        history = (await log_state(reader)).history
        if history is None:
            raise DatabaseUnavailableError("the epoch was begun in another database")
        self._publisher.begin(history)
        self._rival_watch.begin(history, epoch)
        outbox = await Outbox.open(
            reader,
            epoch=epoch,
            limits=BatchLimits(
                settings.realtime_batch_changes,
                settings.realtime_batch_bytes,
                settings.realtime_max_record_bytes,
            ),
            metrics=metrics,
        )
        await listener.listen()
        queue = NotifyQueue(metrics)
        if not await queue.look(reader):  # a full queue accepts no notification
            await listener.test(reader)
        capture = Capture(
            side,
            self._patterns,
            lock_milliseconds=settings.relay_lock_milliseconds,
            metrics=metrics,
        )
        loop = Loop(
            outbox,
            self._publisher,
            listener=listener,
            sleep_lock=SleepLock(reader, metrics),
            watchdog=watchdog,
            leadership=leadership,
            queue=queue,
            health=self._health,
            may_sleep=await may_notify(reader, settings.relay_notify),
            poll_seconds=settings.relay_poll_milliseconds / 1000,
            metrics=metrics,
            tracing=self._tracing,
        )
        rotation = Rotation(
            side,
            outbox,
            limits=RotationLimits(
                settings.realtime_retention_seconds,
                settings.realtime_outbox_bytes,
            ),
            metrics=metrics,
        )
        began = time.monotonic()
        self._loop = loop
        self._released.clear()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_loop(loop), name="loop")
                group.create_task(watchdog.watch(), name="watchdog")
                # The loop renews the lead in the meantime: with many tables this takes a while.
                if settings.relay_install:
                    self._note_uncaptured(await capture.install())
                metrics.leading.set(1)
                self._has_led = True
                group.create_task(self._keep(capture, rotation, queue, side), name="housekeeping")
        finally:
            if time.monotonic() - began >= _STEADY_SECONDS:
                backoff.reset()
            self._loop = None
            self._released.set()

    async def _run_loop(self, loop: Loop) -> None:
        await loop.run()
        raise _LeadReleasedError

    def _note_uncaptured(self, tables: Sequence[Table]) -> None:
        names = ", ".join(table.quoted for table in tables[:_NAMED_TABLES])
        more = f" and {len(tables) - _NAMED_TABLES} more" if len(tables) > _NAMED_TABLES else ""
        text = f"not captured, see the log: {names}{more}" if tables else None
        self._health.note("tables", text)

    async def _keep(
        self, capture: Capture, rotation: Rotation, queue: NotifyQueue, side: Connection
    ) -> None:
        """Run housekeeping on the side connection: notifications, new tables, outbox limits."""
        await rotation.settle()
        while True:
            await queue.look(side)
            self._health.note("notifications", queue.note)
            if self._settings.relay_install:
                self._note_uncaptured(await capture.install())
            await capture.note_names()
            await rotation.turn()
            await asyncio.sleep(self._keep_seconds)
