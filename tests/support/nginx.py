"""An nginx in front of some gateways, with its defaults and gzip."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

import pytest

from devstack.ports import HOST
from devstack.process import Child
from devstack.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.support.requirements import Requirements

    OpenNginx = Callable[..., "Nginx"]
    StartNginx = Callable[..., str]

_START_SECONDS: Final = 20

PASS_ALL = "location / { proxy_pass http://gateways; }"

CONFIG = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_types *;
    gzip_min_length 0;
    upstream gateways {{ {upstreams} }}
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""


class Nginx:
    """One nginx before some gateways; `server` is what stands in the block of this name.

    `max_fails=0`: by default nginx avoids a server that was down once for ten seconds, which are
    more than the other one's turn takes here.
    """

    def __init__(self, program: Path, folder: Path, urls: Sequence[str], server: str) -> None:
        self._folder, self._server, self._port = folder, server, free_port()
        self._config = folder / "nginx.conf"
        folder.mkdir()
        self._write(urls)
        command: list[str | Path] = [
            program, "-p", folder, "-c", self._config, "-e", folder / "nginx.log",
        ]  # fmt: skip
        self.child = Child("nginx", command, log=folder / "output.log")
        self._until_it_listens()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._port}"

    def _until_it_listens(self) -> None:
        """Wait: a browser that is refused shows an error page and does not try again."""
        end = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((HOST, self._port)).close()
                return
            assert self.child.is_running, self.child.output()
            assert time.monotonic() < end, "nginx does not listen"
            time.sleep(0.01)

    def point_at(self, *urls: str) -> None:
        """Balance over other gateways from now on; streams that are open stay where they are."""
        self._write(urls)
        os.kill(self.child.pid, signal.SIGHUP)

    def _write(self, urls: Sequence[str]) -> None:
        upstreams = " ".join(f"server {url.removeprefix('http://')} max_fails=0;" for url in urls)
        user = f"user {self._folder.owner()};" if self._folder.owner() == "root" else ""
        text = CONFIG.format(
            folder=self._folder, port=self._port, user=user, upstreams=upstreams,
            server=self._server,
        )  # fmt: skip
        self._config.write_text(text, encoding="utf-8")


@pytest.fixture
def open_nginx(require: Requirements, tmp_path: Path) -> Iterator[OpenNginx]:
    """Start an nginx before some gateways."""
    program = require.program("nginx", package="nginx")
    opened: list[Nginx] = []

    def start(*urls: str, server: str = PASS_ALL) -> Nginx:
        opened.append(Nginx(program, tmp_path / "nginx", urls, server))
        return opened[-1]

    yield start
    for nginx in opened:
        nginx.child.stop()


@pytest.fixture
def start_nginx(open_nginx: OpenNginx) -> StartNginx:
    """Start an nginx before some gateways; returns its URL."""
    return lambda *urls, **options: open_nginx(*urls, **options).url
