"""The Postgres servers of the tests: throwaway, and of the version under test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from devstack.servers import PostgresServer, free_port

POSTGRES_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "wal_level": "replica",
    "max_wal_senders": "8",
    "hot_standby": "on",
    "max_prepared_transactions": "10",
}


def new_postgres(folder: Path, settings: Mapping[str, str] = POSTGRES_SETTINGS) -> PostgresServer:
    """Return a server with its data in `folder`, not started.

    Its programs are those of the Python package, or of the folder AYB_TEST_POSTGRES names.
    """
    programs = os.environ.get("AYB_TEST_POSTGRES")
    return PostgresServer(
        folder,
        port=free_port(),
        settings=settings,
        programs=Path(programs) if programs else None,
    )
