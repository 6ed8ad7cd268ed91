"""Waiting for changes: NOTIFY only while the relay sleeps.

Every transaction that notifies takes a lock of the whole database at commit, so writers should
notify only when the relay needs it. An advisory lock K says whether it does:

* A relay about to sleep takes K exclusively, and sleeps only while it holds K.
* A writer's trigger tries K in shared mode, for the rest of its transaction. If that fails the
  relay sleeps, or is about to, and the writer notifies. If it succeeds the writer stays silent.

No wake-up is missed: the relay gets K only when no silent writer is in flight, and a writer's locks
are released after its commit has become visible. So whatever was written silently is visible once K
is held, and the relay reads once more before it waits. Whatever is written later sends a NOTIFY.

A busy relay releases K, and takes it again when several reads have found nothing. Under a light
load it keeps K: an occasional NOTIFY costs nothing. A timed poll remains as a safety net; if
it finds changes a few times, notifications do not arrive, and the relay polls from then on.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, Literal

import structlog

from shared.errors import DatabaseUnavailableError, OperatorError
from shared.postgres import connect, unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from asyncpg import Connection

    from relay.metrics import RelayMetrics
    from shared.postgres import DatabaseAddress

log = structlog.get_logger(__name__)

CHANNEL: Final = "ayb_realtime"
LEAD_CHANNEL: Final = "ayb_realtime_lead"
"""Where a leader that gives up the lead wakes the standbys."""

KEEPALIVE: Final = {
    # The server notices within about 15 s that the relay's machine has vanished: the first three
    # are for an idle connection, the last for one with an answer under way (RFC 5482).
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_SELF_TEST_SECONDS: Final = 5.0
_SQL: Final = queries("relay.session")


async def may_notify(connection: Connection, mode: Literal["auto", "on", "off"]) -> bool:
    """Whether writers may be asked to NOTIFY: a transaction that has notified cannot be prepared.

    In mode `auto` the server's settings decide.
    """
    if mode != "auto":
        return mode == "on"
    if await connection.fetchval(_SQL["allows_prepared_transactions"]):
        log.info("prepared transactions are possible: polling instead of NOTIFY")
        return False
    return True


class ListenError(OperatorError):
    """Notifications do not arrive."""


class Listener:
    """A separate connection that receives notifications.

    While the relay stands by, it is notified only that the lead is free, not of changes.
    """

    def __init__(self, connection: Connection, metrics: RelayMetrics) -> None:
        self._connection = connection
        self._metrics = metrics
        self._heard = asyncio.Event()
        self._closed = asyncio.Event()
        self._test: tuple[str, asyncio.Event] | None = None
        self.lead_freed: Final = asyncio.Event()
        """Set when a leader has given up the lead."""

    @classmethod
    async def open(cls, address: DatabaseAddress | str, metrics: RelayMetrics) -> Listener:
        """Connect, and listen for a lead that is free; raises `DatabaseUnavailableError`."""
        connection = await connect(address, application_name="ayb-relay listen", settings=KEEPALIVE)
        listener = cls(connection, metrics)
        connection.add_termination_listener(listener._on_closed)
        with unavailable_as_ours():
            await connection.add_listener(LEAD_CHANNEL, listener._on_lead_freed)
        return listener

    async def listen(self) -> None:
        """Listen to writers too; raises `DatabaseUnavailableError`."""
        with unavailable_as_ours():
            await self._connection.add_listener(CHANNEL, self._on_notify)

    def _on_lead_freed(self, *_: object) -> None:
        self.lead_freed.set()

    def _on_notify(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if self._test is not None and payload == self._test[0]:
            self._test[1].set()
            return
        self._metrics.wakes.inc()
        self._heard.set()

    def _on_closed(self, _connection: object) -> None:
        self._closed.set()
        self._heard.set()

    async def watch(self) -> None:
        """Wait until the connection ends; raises `DatabaseUnavailableError` then."""
        await self._closed.wait()
        raise DatabaseUnavailableError("the LISTEN connection was lost")

    async def test(self, other: Connection) -> None:
        """Prove that a notification sent by another connection arrives; `listen` has been called.

        Raises `ListenError` if it does not, as behind a proxy that pools transactions.
        """
        token = f"test {secrets.token_hex(8)}"
        arrived = asyncio.Event()
        self._test = (token, arrived)
        try:
            with unavailable_as_ours():
                await other.execute(_SQL["notify"], CHANNEL, token)
            async with asyncio.timeout(_SELF_TEST_SECONDS):
                await arrived.wait()
        except TimeoutError:
            raise ListenError(
                "no notification arrives. AYB_DATABASE_URL probably points to a pooler in "
                "transaction mode (PgBouncer): point it at Postgres itself"
            ) from None
        finally:
            self._test = None

    def wake(self) -> None:
        """End a wait, as a notification does."""
        self._heard.set()

    def forget(self) -> None:
        """Forget earlier notifications; called before each read."""
        self._heard.clear()

    @property
    def has_heard(self) -> bool:
        """Whether there was a notification since `forget`."""
        return self._heard.is_set()

    async def wait(self, seconds: float) -> bool:
        """Wait for a notification since `forget`, or for a time; return whether there was one."""
        try:
            async with asyncio.timeout(seconds):
                return await self._heard.wait()
        except TimeoutError:
            return False

    async def close(self) -> None:
        """End the connection."""
        self._connection.terminate()


class SleepLock:
    """The lock K, held by the connection that reads."""

    def __init__(self, connection: Connection, metrics: RelayMetrics) -> None:
        self._connection = connection
        self._metrics = metrics
        self._held = False

    @property
    def is_held(self) -> bool:
        """Whether writers notify."""
        return self._held

    async def try_take(self) -> bool:
        """Take K unless a silent writer is in flight."""
        self._held = await self._connection.fetchval(_SQL["take_sleep_lock"])
        self._metrics.sleeping.set(self._held)
        return self._held

    async def holders(self) -> str:
        """Describe the other sessions that hold K."""
        rows = await self._connection.fetch(_SQL["sleep_lock_holders"])
        return "; ".join(row["holder"] for row in rows)

    async def give_back(self) -> None:
        """Release K: writers need not notify."""
        await self._connection.fetchval(_SQL["give_sleep_lock"])
        self._held = False
        self._metrics.sleeping.set(0)
