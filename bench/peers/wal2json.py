"""wal2json: changes as JSON, decoded from the write-ahead log, as many projects do it.

A server of its own with `wal_level = logical`, one slot, and `pg_recvlogical`, which writes what it
receives to a file and does nothing else with it. A real consumer would do more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from devstack.ports import HOST, free_port
from devstack.postgres import PostgresServer
from devstack.process import Child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

MISSING: Final = "no wal2json here (Debian: postgresql-15-wal2json)"
"""Why it is left out where `programs` finds none."""
_SLOT: Final = "bench"
_CHANGE: Final = re.compile(rb'^\{"action":"[IUD]"', re.MULTILINE)


def programs() -> Path | None:
    """Return the programs of the newest Postgres that has the plugin, None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/lib/wal2json.so"))
    return found[-1].parents[1] / "bin" if found else None


@dataclass
class ChangeFile:
    """What pg_recvlogical has written, read on from where it was read before."""

    path: Path
    _read: int = 0
    _changes: int = 0

    def count(self) -> int:
        """Return how many changes there are by now; a line that is not complete waits."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                lines = file.read()
            complete = lines[: lines.rfind(b"\n") + 1]
            self._read += len(complete)
            self._changes += len(_CHANGE.findall(complete))
        return self._changes


class Wal2json:
    """A server whose changes are decoded; `count` says how many have come out."""

    def __init__(self, folder: Path, programs: Path, settings: Mapping[str, str]) -> None:
        self.postgres = PostgresServer(
            folder / "wal2json",
            port=free_port(),
            settings={**settings, "wal_level": "logical"},
            programs=programs,
        )
        self._file = ChangeFile(folder / "wal2json.out")
        self._log = folder / "pg_recvlogical.log"
        self._consumer: Child | None = None

    def __enter__(self) -> Self:
        self.postgres.start()
        return self

    def begin(self) -> None:
        """Make the slot and receive from it: what is written from now on."""
        common = ("-h", HOST, "-p", str(self.postgres.port), "-U", "postgres", "-d", "postgres",
                  "--slot", _SLOT)  # fmt: skip
        self.postgres.run_program(
            "pg_recvlogical", *common, "--create-slot", "--plugin", "wal2json"
        )
        self._consumer = Child(
            "pg_recvlogical",
            [
                self.postgres.program("pg_recvlogical"), *common,
                "--start", "--file", self._file.path, "--fsync-interval", "0",
                "--option", "format-version=2", "--option", "include-transaction=0",
            ],
            log=self._log,
        )  # fmt: skip

    @property
    def consumer(self) -> Child:
        """The process that receives; raises `RuntimeError` before `begin`."""
        if self._consumer is None:
            raise RuntimeError("nothing receives yet")
        return self._consumer

    def count(self) -> int:
        """Return how many changes have been received; raises `RuntimeError` if nothing does."""
        if not self.consumer.is_running:
            raise RuntimeError(f"pg_recvlogical ended: {self.consumer.output()}")
        return self._file.count()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._consumer is not None:
            self._consumer.stop()
        self.postgres.stop()
