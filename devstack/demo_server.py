"""Writes rows of the demo for the console's buttons: `POST /insert`, `/update`, ... on a port.

The console is a page of the gateway, which cannot write. So the stack answers its buttons itself,
on loopback, and only to pages of its own gateway: any other page's request fails at the preflight
that its content type demands (the Fetch standard, section "CORS protocol").
"""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from devstack.demo import PASSWORD, USERS
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Sequence

_SQL: Final = queries("devstack")
_ACTIONS: Final = {
    "insert": "inserted, and published: everyone sees it",
    "update": "updated",
    "publish": "published: everyone sees it",
    "hide": "hidden: only its author sees it now",
    "delete": "deleted",
}
_MOST_BODY_BYTES: Final = 1_000


class DemoServer:
    """Answers the console's buttons until it is closed."""

    def __init__(self, database_url: str, *, origins: Sequence[str]) -> None:
        handler = type("Handler", (_Handler,), {"database_url": database_url, "origins": origins})
        self._server = ThreadingHTTPServer(("localhost", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="demo", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://localhost:{self._server.server_port}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    database_url: str
    origins: Sequence[str]

    def do_OPTIONS(self) -> None:
        self._answer(204, None)

    def do_GET(self) -> None:
        if self.path == "/users" and self._is_local():
            self._answer(200, {"users": USERS, "password": PASSWORD})
        else:
            self._answer(404, {"message": "not found"})

    def do_POST(self) -> None:
        action = self.path.removeprefix("/")
        is_json = self.headers.get("Content-Type") == "application/json"
        if f"demo_{action}" not in _SQL or not is_json or not self._is_local():
            self._answer(404, {"message": "not found"})
            return
        try:
            length = max(0, min(int(self.headers.get("Content-Length", 0)), _MOST_BODY_BYTES))
            asked = json.loads(self.rfile.read(length))
            row = asked["row"]
            user = USERS.index(asked["user"]) + 1
        except (ValueError, KeyError, TypeError):
            self._answer(400, {"message": "wrong request"})
            return
        self._answer(*asyncio.run(self._write(action, row if type(row) is int else None, user)))

    async def _write(self, action: str, row: int | None, user: int) -> tuple[int, dict[str, Any]]:
        try:
            connection = await asyncpg.connect(self.database_url, timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return 503, {"message": f"Postgres refuses the connection: {error}"}
        try:
            owner = f"00000000-0000-4000-8000-{user:012d}"
            arguments = (owner,) if action == "insert" else (owner, row)
            written = await connection.fetchrow(_SQL[f"demo_{action}"], *arguments)
        except asyncpg.PostgresError as error:
            return 409, {"message": f"Postgres refuses it: {error}"}
        finally:
            await connection.close()
        if written is None:
            return 404, {"message": "this user has no post: insert one first"}
        said = "hide" if action == "publish" and not written["published"] else action
        message = f"post {written['id']} {_ACTIONS[said]}"
        return 200, {"row": None if action == "delete" else written["id"], "message": message}

    def _is_local(self) -> bool:
        """Whether the page asked for this machine, not for a name that was bent to lead to it."""
        return self.headers.get("Host", "").partition(":")[0] in ("localhost", "127.0.0.1")

    def _answer(self, status: int, body: dict[str, Any] | None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        origin = self.headers.get("Origin")
        if origin is not None and origin in self.origins:
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Access-Control-Allow-Headers", "Content-Type")
        self.send_header("Vary", "Origin")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing: the changes are shown."""
