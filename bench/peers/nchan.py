"""nginx with nchan as a peer: one worker, a channel, and its publisher."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Self

import psutil

from devstack.process import Child
from devstack.servers import free_port

if TYPE_CHECKING:
    from types import TracebackType

MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
"""Debian's package libnginx-mod-nchan."""

_START_SECONDS: Final = 20
_CONFIGURATION: Final = """
load_module {module};
daemon off; worker_processes 1; worker_rlimit_nofile {files}; pid {folder}/pid;
error_log {folder}/error.log error;
events {{ worker_connections {files}; }}
http {{
    access_log off; keepalive_timeout 1h; client_header_timeout 1h; keepalive_requests 10000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /sub {{ nchan_subscriber eventsource; nchan_channel_id bench;
            nchan_subscriber_first_message newest; nchan_eventsource_ping_interval 0; }}
        location /pub {{ nchan_publisher http; nchan_channel_id bench;
            nchan_message_buffer_length 1; }}
    }}
}}
"""


class Nchan:
    """Starts nginx on a free port. `files` bounds its connections, which it allocates at once."""

    def __init__(self, *, files: int = 20_000) -> None:
        self.port = free_port()
        self._files = files

    @staticmethod
    def why_not() -> str | None:
        """Return what is missing, None if nothing is."""
        if shutil.which("nginx") is None or not MODULE.exists():
            return "nginx or its module is not installed (apt-get install libnginx-mod-nchan)"
        return None

    async def __aenter__(self) -> Self:
        self._start()
        try:
            async with asyncio.timeout(_START_SECONDS):
                self.worker_pid = await self._until_started()
        except BaseException:
            self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()
        self._stop()

    async def publish(self, event: str) -> None:
        """Publish an event and read the answer."""
        head = f"POST /pub HTTP/1.1\r\nHost: x\r\nContent-Length: {len(event)}\r\n\r\n"
        self._writer.write((head + event).encode())
        answer = await self._reader.readuntil(b"\r\n\r\n")
        [length] = [
            int(line.split(b":")[1])
            for line in answer.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        ]
        await self._reader.readexactly(length)

    def _start(self) -> None:
        """Start nginx in a folder that the worker's own user can use."""
        self._folder = TemporaryDirectory(prefix="ayb-nchan-")
        folder = Path(self._folder.name)
        folder.chmod(0o777)
        text = _CONFIGURATION.format(
            module=MODULE, folder=folder, port=self.port, files=self._files
        )
        file = folder / "nginx.conf"
        file.write_text(text, encoding="utf-8")
        self._child = Child(
            "nginx", [shutil.which("nginx") or "nginx", "-c", file], log=folder / "nginx.log"
        )

    async def _until_started(self) -> int:
        """Connect the publisher, and return the worker's process ID."""
        while True:
            if not self._child.is_running:
                raise RuntimeError(f"nginx ended: {self._child.output()[-1000:]}")
            with contextlib.suppress(OSError):
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
                break
            await asyncio.sleep(0.05)
        while not (workers := psutil.Process(self._child.pid).children()):
            await asyncio.sleep(0.05)
        return workers[0].pid

    def _stop(self) -> None:
        self._child.stop()
        self._folder.cleanup()
