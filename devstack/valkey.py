"""A Valkey as a child process."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

from devstack.binaries import valkey_program
from devstack.ports import HOST, check_port
from devstack.process import Child
from devstack.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class ValkeyServer(Server):
    """A Valkey (or Redis) on loopback that keeps nothing on disk, since it only carries messages.

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
        """Start with an empty memory."""
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
