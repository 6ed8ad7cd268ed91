"""An nginx in front of some gateways, with its defaults and gzip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devstack.process import Child
from devstack.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.requirements import Requirements

    StartNginx = Callable[..., str]

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


@pytest.fixture
def start_nginx(require: Requirements, tmp_path: Path) -> Iterator[StartNginx]:
    """Start an nginx before some gateways; returns its URL.

    `server` is what stands in the block of this name. `max_fails=0`: by default nginx
    avoids a server that was down once for ten seconds, which are more than the other one's turn
    takes here.
    """
    program = require.program("nginx", package="nginx")
    children: list[Child] = []

    def start(*urls: str, server: str = PASS_ALL) -> str:
        folder, port = tmp_path / "nginx", free_port()
        folder.mkdir()
        upstreams = " ".join(f"server {url.removeprefix('http://')} max_fails=0;" for url in urls)
        user = f"user {folder.owner()};" if folder.owner() == "root" else ""
        config = folder / "nginx.conf"
        config.write_text(
            CONFIG.format(
                folder=folder,
                port=port,
                user=user,
                upstreams=upstreams,
                server=server,
            )
        )
        command: list[str | Path] = [
            program,
            "-p",
            folder,
            "-c",
            config,
            "-e",
            folder / "nginx.log",
        ]
        children.append(Child("nginx", command, log=folder / "output.log"))
        return f"http://127.0.0.1:{port}"

    yield start
    for child in children:
        child.stop()
