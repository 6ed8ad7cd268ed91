"""Standbys of a test's Postgres: a plain copy, and a read replica that lags by a set time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from devstack.servers import PostgresServer
from tests.support.databases import Database
from tests.support.servers import POSTGRES_SETTINGS, new_postgres


def copy_server(primary: PostgresServer, folder: Path) -> None:
    """Write the data directory of a standby of a running server to `folder`."""
    folder.mkdir(mode=0o700)
    owner = primary.data_dir.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    # The package's pg_basebackup copies older servers too, and not every build has its own.
    packaged = PostgresServer(primary.data_dir, port=primary.port)
    packaged.run_program(
        "pg_basebackup", "-D", folder, "-d", primary.dsn(), "-R", "-X", "stream", "-c", "fast",
        "--no-sync",
    )  # fmt: skip
    # The settings that -R writes include parameters that older servers do not know.
    with (folder / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.write(f"primary_conninfo = '{primary.dsn()}'\n")


async def replayed(primary: Database, replica: PostgresServer) -> None:
    """Wait until a standby has replayed everything that the primary has committed."""
    async with (
        primary.connect() as session,
        primary.connect(replica.dsn(primary.name)) as standby,
        asyncio.timeout(30),
    ):
        lsn = await session.fetchval("SELECT pg_current_wal_insert_lsn()")
        caught_up = "SELECT pg_last_wal_replay_lsn() >= $1"
        while not await standby.fetchval(caught_up, lsn):  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.05)


@contextlib.contextmanager
def lagging_replica(
    primary: PostgresServer, folder: Path, *, delay_seconds: float
) -> Iterator[PostgresServer]:
    """Run a standby that replays each commit `delay_seconds` after it was made."""
    copy_server(primary, folder)
    settings = {**POSTGRES_SETTINGS, "recovery_min_apply_delay": f"{delay_seconds * 1000:.0f}ms"}
    with new_postgres(folder, settings) as server:
        yield server
