"""The relay's settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.outbox import MAX_RECORD_BYTES
from shared.postgres import DatabaseAddress
from shared.settings import CommaList, CommonSettings, PostgresUrl, RedisUrls

_MIB = 1024 * 1024


class RelaySettings(CommonSettings):
    """Read from the environment, prefix `AYB_`."""

    database_url: PostgresUrl
    """The primary, without a transaction-pooling proxy between."""

    redis_url: RedisUrls
    """One per region."""

    read_database_url: PostgresUrl | None = None
    """The gateways' database and login: only the doctor looks at it."""

    auth_role: str = "ayb_authenticated"
    """The role of users with a token: only the doctor looks at it."""

    realtime_tables: CommaList = ("public.*",)
    """Patterns `schema.table` of what is captured; see `relay.capture.patterns`."""

    realtime_retention_seconds: float = Field(default=86_400, ge=4)
    """How long changes stay in the outbox for clients that come back."""

    realtime_outbox_bytes: int = Field(default=8 * 1024 * _MIB, ge=16 * _MIB)
    """The size of the outbox at which changes are given up before their time."""

    realtime_max_record_bytes: int = Field(default=MAX_RECORD_BYTES, ge=64)
    realtime_batch_changes: int = Field(default=1_000, ge=1, le=100_000)
    realtime_batch_bytes: int = Field(default=4 * _MIB, ge=1_024)

    relay_host: str = "0.0.0.0"  # noqa: S104 (probes come from outside)
    relay_port: int = Field(default=8091, ge=0, le=65_535)
    relay_install: bool = True
    """Whether the relay migrates and installs triggers by itself."""

    relay_scan_seconds: float = Field(default=2.0, gt=0)
    """How often new tables are looked for."""

    relay_lock_milliseconds: int = Field(default=200, ge=1)
    """How long DDL may wait for a lock, and so how long writers may have to queue behind it."""

    relay_notify: Literal["auto", "on", "off"] = "auto"
    """Whether a sleeping relay is woken by NOTIFY; off, it polls. `auto` is off where the server
    allows prepared transactions, which may not contain a NOTIFY."""

    relay_poll_milliseconds: int = Field(default=20, ge=1)
    """How often the outbox is read where NOTIFY is off."""

    relay_priority: int = Field(default=0, ge=-1000, le=1000)
    """Of several relays the one with the highest priority leads; among equals, one whose round trip
    to the primary is not more than twice that of another."""

    relay_queue_bytes: int = Field(default=64 * _MIB, ge=_MIB)
    """What may wait for one Redis; past it, gateways of that region read the outbox instead."""

    @property
    def database(self) -> DatabaseAddress:
        """The primary, and the relay's login."""
        return DatabaseAddress(self.database_url.get_secret_value(), self.database_password_file)

    @property
    def read_database(self) -> DatabaseAddress | None:
        """The gateways' database and login, where the doctor is to look at them."""
        if self.read_database_url is None:
            return None
        return DatabaseAddress(
            self.read_database_url.get_secret_value(), self.read_database_password_file
        )
