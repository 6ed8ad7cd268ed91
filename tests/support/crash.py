"""A crash or a freeze of Postgres: all of its processes, by id."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

from devstack.servers import PostgresServer


def crash(server: PostgresServer) -> None:
    """Kill the postmaster and all its children at once, so that nothing more is written."""
    postmaster = psutil.Process(server.pid)
    postmaster.suspend()  # so that it starts no others meanwhile
    children = postmaster.children(recursive=True)
    for child in children:
        child.kill()
    server.kill()
    psutil.wait_procs(children, timeout=10)


@contextlib.contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Freeze all of Postgres, including its backends, while the context is open."""
    postmaster = psutil.Process(server.pid)
    postmaster.suspend()
    processes = [*postmaster.children(recursive=True), postmaster]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
