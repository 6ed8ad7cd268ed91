"""A real PgBouncer in front of a Postgres of the tests."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from devstack.account import postgres_account
from devstack.ports import HOST
from devstack.process import Child
from devstack.servers import PostgresServer, free_port
from tests.support.databases import Database

START_SECONDS = 20.0


@contextlib.contextmanager
def pgbouncer(
    program: Path, folder: Path, server: PostgresServer, mode: str, *, size: int = 20
) -> Iterator[int]:
    """Run one while the context is open; yield its port."""
    port = free_port()
    folder.mkdir(mode=0o755)
    users = folder / "users.txt"
    users.write_text("".join(f'"{u}" ""\n' for u in ("postgres", "ayb_relay", "ayb_gateway")))
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host={HOST} port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {users}\npool_mode = {mode}\n"
        f"default_pool_size = {size}\nmax_client_conn = 200\n"
    )
    # It refuses to run as root, as Postgres does.
    account = postgres_account(server.data_dir)
    child = Child("pgbouncer", [program, config], log=folder / "log", account=account)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                break
            assert child.is_running, child.output()
            assert time.monotonic() < end
            time.sleep(0.02)
        yield port
    finally:
        child.stop()


def through(database: Database, server: PostgresServer, port: int) -> Database:
    """The database with its two logins connected through a pooler; the superuser is not."""
    here, there = f":{server.port}/", f":{port}/"
    return Database(
        database.name,
        database.dsn,
        database.relay_dsn.replace(here, there),
        database.gateway_dsn.replace(here, there),
    )
