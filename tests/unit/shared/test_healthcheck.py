"""shared.healthcheck: whether the process in a container is alive."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import pytest

from shared import healthcheck

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[tuple[int, list[int]]]:
    """A server whose answers to /healthz have the last status of a list."""
    statuses = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[-1] if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1], statuses
        running.shutdown()


@pytest.mark.parametrize("setting", ["AYB_SERVER_PORT", "AYB_RELAY_PORT"])
def test_alive_on_either_port(
    server: tuple[int, list[int]], monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """The process is alive where the gateway's or the relay's port answers 200, else it is not."""
    port, statuses = server
    for name in ("AYB_SERVER_PORT", "AYB_RELAY_PORT"):
        monkeypatch.setenv(name, "1")
    assert healthcheck.main() == 1
    monkeypatch.setenv(setting, str(port))
    assert healthcheck.main() == 0
    statuses.append(503)
    assert healthcheck.main() == 1
