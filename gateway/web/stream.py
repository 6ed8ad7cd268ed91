"""`GET /api/realtime`: from a request to a stream, as a plain ASGI endpoint.

The endpoint's own task does nothing but wait for the end; hub and replay write through the
connection (see `gateway.streams.connection` for why this is not a `StreamingResponse`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import structlog
from starlette.datastructures import Headers

from gateway.errors import (
    AuthenticationRequiredError,
    GatewayError,
    InvalidTokenError,
    NoTablesError,
    PermissionDeniedError,
    RequestTooLongError,
    ServiceUnavailableError,
    ShuttingDownError,
    TablesRequiredError,
    UnknownTableRequestError,
)
from gateway.streams import sse
from gateway.streams.connection import CloseReason, Connection
from gateway.tables.catalog import UnknownTableError
from gateway.tables.names import MOST_CHARACTERS, MOST_TABLES, parse_tables
from gateway.web.bearer import bearer_token
from gateway.web.error_responses import error_response
from shared.errors import DatabaseUnavailableError, PositionError
from shared.position import Position, parse_position

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from gateway.auth.claims import Claims
    from gateway.auth.verifier import TokenVerifier
    from gateway.fanout.backlog import Backlog
    from gateway.fanout.hub import Hub
    from gateway.fanout.replay import Replayer
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Send
    from gateway.streams.drain import Drain
    from gateway.streams.limits import StreamLimits
    from gateway.tables.catalog import Catalog, Table
    from shared.tasks import Spawn

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Scope = MutableMapping[str, Any]

log = structlog.get_logger(__name__)

_MOST_QUERY_BYTES: Final = 48 * 1024
_NO_SETTINGS: Final = ("", "", "", "")


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The settings that a stream depends on."""

    anonymous_role: str | None
    cors_origins: tuple[str, ...]
    most_pending_bytes: int


@dataclass(frozen=True, slots=True)
class _Request:
    """What a client asks for, checked."""

    claims: Claims | None
    role: str | None
    tables: list[Table]
    leave: bool
    last_event_id: str | None

    @property
    def user_id(self) -> str:
        return "" if self.claims is None else self.claims.user_id


class StreamEndpoint:
    """Accepts streams."""

    def __init__(
        self,
        *,
        hub: Hub,
        replayer: Replayer,
        backlog: Backlog,
        catalog: Catalog,
        verifier: TokenVerifier | None,
        limits: StreamLimits,
        drain: Drain,
        metrics: GatewayMetrics,
        options: StreamOptions,
        spawn: Spawn,
    ) -> None:
        self._hub = hub
        self._replayer = replayer
        self._backlog = backlog
        self._catalog = catalog
        self._verifier = verifier
        self._limits = limits
        self._drain = drain
        self._metrics = metrics
        self._options = options
        self._spawn = spawn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = Headers(scope=scope)
        address = scope["client"][0] if scope.get("client") else ""
        try:
            request = await self._check(scope, headers)
            self._limits.enter(request.user_id, address)
        except GatewayError as error:
            self._metrics.refused.labels(str(error.status)).inc()
            response = error_response(error)
            response.headers.update(self._cors(headers))
            await response(scope, receive, send)
            return
        try:
            await self._stream(request, scope, headers, receive, send)
        finally:
            self._limits.exit(request.user_id, address)

    async def _check(self, scope: Scope, headers: Headers) -> _Request:
        """Check in the order of the protocol: auth, tables; limits come after."""
        if self._drain.is_draining:
            raise ShuttingDownError
        query_string: bytes = scope["query_string"]
        if len(query_string) > _MOST_QUERY_BYTES:
            raise RequestTooLongError
        query = _query(query_string)
        try:
            claims, role = await self._authenticate(headers, query)
            tables = await self._tables(query, role)
        except DatabaseUnavailableError as error:
            raise ServiceUnavailableError from error
        if not self._hub.is_started:
            raise ServiceUnavailableError
        last_event_id = headers.get("last-event-id") or query.get("lastEventId") or None
        if last_event_id is not None:
            await self._await(last_event_id)
        return _Request(claims, role, tables, query.get("leave") == "true", last_event_id)

    async def _await(self, last_event_id: str) -> None:
        """Wait for a position that lies ahead, if it is one."""
        try:
            await self._backlog.await_position(parse_position(last_event_id))
        except PositionError:
            return
        except DatabaseUnavailableError as error:
            raise ServiceUnavailableError from error

    async def _authenticate(
        self, headers: Headers, query: Mapping[str, str]
    ) -> tuple[Claims | None, str | None]:
        if self._verifier is None:
            return None, None
        token = bearer_token(headers, query)
        if token is not None:
            claims = await self._verifier.verify(token)
            role = claims.role
        elif self._options.anonymous_role is not None:
            claims, role = None, self._options.anonymous_role
        else:
            raise AuthenticationRequiredError
        if not await self._catalog.may_use(role):
            log.warning("role refused: unknown, privileged, or not granted to us", role=role)
            raise InvalidTokenError
        return claims, role

    async def _tables(self, query: Mapping[str, str], role: str | None) -> list[Table]:
        parameter = query.get("tables", "")
        if not parameter.strip():
            raise TablesRequiredError
        if len(parameter) > MOST_CHARACTERS:
            raise RequestTooLongError
        try:
            names = parse_tables(parameter)
            if len(names) > MOST_TABLES:
                raise RequestTooLongError
            tables = await self._catalog.resolve(names)
        except ValueError as error:
            raise UnknownTableRequestError(str(error)) from None
        except UnknownTableError as error:
            raise UnknownTableRequestError(str(error)) from None
        if not tables:
            raise NoTablesError
        if role is not None:
            for table in tables:
                if not await self._catalog.may_read(table, role):
                    raise PermissionDeniedError(sse.display_name(table.name))
        return tables

    async def _stream(
        self, request: _Request, scope: Scope, headers: Headers, receive: Receive, send: Send
    ) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream"),
                    (b"cache-control", b"no-cache"),
                    (b"x-accel-buffering", b"no"),
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in self._cors(headers).items()
                    ),
                ],
            }
        )
        end = _End()
        relids = {table.name: table.relid for table in request.tables}

        def replay_at_its_own_pace(slow: Connection) -> None:
            if self._hub.leave(slow):
                self._metrics.overflows.inc()
                self._replayer.add(slow, relids)

        connection = Connection(
            send=send,
            spawn=self._spawn,
            on_close=end.come,
            on_overflow=replay_at_its_own_pace,
            tables=tuple(relids),
            role=request.role,
            settings=_NO_SETTINGS if request.claims is None else request.claims.settings(),
            user_id=request.user_id,
            address=scope["client"][0] if scope.get("client") else "",
            expires_at=None if request.claims is None else request.claims.expires_at,
            leave=request.leave,
            most_pending_bytes=self._options.most_pending_bytes,
        )
        self._metrics.opened.inc()
        self._begin(connection, relids, request.last_event_id)
        try:
            while connection.is_open:
                if await end.awaited(receive()) == "http.disconnect":
                    connection.close(CloseReason.GONE)
        finally:
            connection.close(CloseReason.GONE)
            self._hub.leave(connection)
            self._replayer.discard(connection)
            self._metrics.closed.labels(str(connection.close_reason)).inc()
        await _finish(connection, scope, receive, send)

    def _begin(
        self, connection: Connection, relids: dict[str, int], last_event_id: str | None
    ) -> None:
        """Send `connected` and make the connection live, or replay to it first."""
        position, fault = None, None
        if last_event_id is not None:
            try:
                position = parse_position(last_event_id)
                fault = self._backlog.resume_error(position)
            except PositionError:
                fault = "unknown"
        if position is not None and fault is None:
            connection.order = position.order
            connection.write(sse.connected_frame(position, connection.client_id))
            self._metrics.resumed.inc()
            self._replayer.add(connection, relids)
            return
        now: Position = self._hub.join(connection, relids)
        connected = sse.connected_frame(now, connection.client_id)
        if fault is None:
            connection.write(connected)
        else:
            self._metrics.resyncs.labels(fault).inc()
            connection.write(connected, sse.resync_frame(now, fault, connection.tables))

    def _cors(self, headers: Headers) -> dict[str, str]:
        origin = headers.get("origin")
        if "*" in self._options.cors_origins:
            return {"Access-Control-Allow-Origin": "*"}
        if origin is not None and origin in self._options.cors_origins:
            return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        return {"Vary": "Origin"}


class _End:
    """Lets the server end a stream whose task waits in `receive`, without a second task."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._waiting = False
        self._came = False

    def come(self) -> None:
        self._came = True
        if self._waiting and self._task is not None:
            self._task.cancel()

    async def awaited(self, receiving: Awaitable[MutableMapping[str, Any]]) -> str:
        """Await a message; returns its type, or "" where the end came first."""
        self._waiting = True
        try:
            return str((await receiving)["type"])
        except asyncio.CancelledError:
            if not self._came or self._task is None or self._task.uncancel() > 0:
                raise
            return ""
        finally:
            self._waiting = False


async def _finish(connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
    """Complete the response, or cut the socket of a peer that takes nothing."""
    if connection.close_reason is CloseReason.GONE:
        return
    if connection.is_blocked:
        abort = scope.get("ayb.abort")
        if abort is not None:
            abort()
            while (await receive())["type"] != "http.disconnect":
                pass
        return
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _query(query_string: bytes) -> dict[str, str]:
    """Read the query; the first of several values counts, and a `tables` list may be split."""
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise RequestTooLongError from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name == "tables" and name in query:
            query[name] += "," + value
        else:
            query.setdefault(name, value)
    return query
