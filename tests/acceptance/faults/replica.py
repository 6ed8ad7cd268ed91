"""A read replica that lags by a set time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from devstack.servers import PostgresServer
from tests.conftest import POSTGRES_SETTINGS, new_postgres


@contextlib.contextmanager
def lagging_replica(
    primary: PostgresServer, folder: Path, *, delay_seconds: float
) -> Iterator[PostgresServer]:
    """Copy a server, and let the copy replay each commit so much later."""
    folder.mkdir(mode=0o700)
    owner = primary.data_dir.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    primary.run_program(
        "pg_basebackup", "-D", folder, "-d", primary.dsn(), "-R", "-X", "stream", "-c", "fast"
    )
    settings = {**POSTGRES_SETTINGS, "recovery_min_apply_delay": f"{delay_seconds * 1000:.0f}ms"}
    with new_postgres(folder, settings) as server:
        yield server
