"""nginx with nchan as a peer: one worker, a channel, and its publisher."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Self

import psutil

from devstack.servers import free_port

if TYPE_CHECKING:
    from types import TracebackType

MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
"""Debian's package libnginx-mod-nchan."""

_CONFIGURATION: Final = """
load_module {module};
daemon off; worker_processes 1; worker_rlimit_nofile 60000; pid {folder}/pid;
error_log {folder}/error.log error;
events {{ worker_connections 50000; }}
http {{
    access_log off; client_body_temp_path {folder}/body; keepalive_requests 10000000;
    proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /sub {{ nchan_subscriber eventsource; nchan_channel_id bench;
            nchan_subscriber_first_message newest; nchan_eventsource_ping_interval 0; }}
        location /pub {{ nchan_publisher http; nchan_channel_id bench;
            nchan_message_buffer_length {buffered}; }}
    }}
}}
"""


class Nchan:
    """Starts nginx on a free port. `buffered` is how many events a channel keeps."""

    def __init__(self, *, buffered: int = 1) -> None:
        self.port = free_port()
        self._buffered = buffered

    @staticmethod
    def is_installed() -> bool:
        """Whether nginx has the module."""
        return MODULE.exists()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec("nginx", "-c", str(self._write()))
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError):
                    self._reader, self._writer = await asyncio.open_connection(
                        "127.0.0.1", self.port
                    )
                    break
                await asyncio.sleep(0.05)
        self.worker = psutil.Process(self._process.pid).children()[0]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()
        self._process.terminate()
        await self._process.wait()
        self._folder.cleanup()

    def _write(self) -> Path:
        """Write the configuration to a folder that the worker's own user can use."""
        self._folder = TemporaryDirectory(prefix="ayb-nchan-")
        folder = Path(self._folder.name)
        folder.chmod(0o777)
        text = _CONFIGURATION.format(
            module=MODULE, folder=folder, port=self.port, buffered=self._buffered
        )
        file = folder / "nginx.conf"
        file.write_text(text, encoding="utf-8")
        return file

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
