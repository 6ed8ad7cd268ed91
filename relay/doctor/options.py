"""What the doctor is to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.settings import RelaySettings
    from shared.postgres import DatabaseAddress


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """The databases and servers of a deployment, and what is to be captured."""

    database: DatabaseAddress
    read_database: DatabaseAddress | None
    redis_urls: Sequence[str]
    table_patterns: Sequence[str]
    auth_role: str

    @classmethod
    def of(cls, settings: RelaySettings) -> DoctorOptions:
        """Return the options for a relay's settings."""
        return cls(
            database=settings.database,
            read_database=settings.read_database,
            redis_urls=[url.get_secret_value() for url in settings.redis_url],
            table_patterns=settings.realtime_tables,
            auth_role=settings.auth_role,
        )
