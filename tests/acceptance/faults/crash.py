"""A crash of Postgres: every process of it ended by SIGKILL, by its id."""

from __future__ import annotations

import psutil

from devstack.servers import PostgresServer


def crash(server: PostgresServer) -> None:
    """End the postmaster and all its children at once, so that nothing is written any more."""
    postmaster = psutil.Process(server.pid)
    postmaster.suspend()  # it must not start others meanwhile
    children = postmaster.children(recursive=True)
    for child in children:
        child.kill()
    server.kill()
    psutil.wait_procs(children, timeout=10)
