"""A read replica that lags by a set time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from devstack.servers import PostgresServer
from tests.conftest import POSTGRES_SETTINGS, copy_server, new_postgres


@contextlib.contextmanager
def lagging_replica(
    primary: PostgresServer, folder: Path, *, delay_seconds: float
) -> Iterator[PostgresServer]:
    """Copy a server, and let the copy replay each commit so much later."""
    copy_server(primary, folder)
    settings = {**POSTGRES_SETTINGS, "recovery_min_apply_delay": f"{delay_seconds * 1000:.0f}ms"}
    with new_postgres(folder, settings) as server:
        yield server
