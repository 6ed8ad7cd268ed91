"""`GET /api/realtime`: from a request to a stream, as a plain ASGI endpoint.

The endpoint's own task only waits for the end of the stream; hub and replay write through the
connection (see `gateway.streams.connection` for why this is not a `StreamingResponse`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from starlette.datastructures import Headers

from gateway.client_network import client_address
from gateway.errors import GatewayError, InternalError
from gateway.streams import sse
from gateway.streams.connection import CloseReason, Connection
from gateway.streams.cursor import cursor_at
from gateway.web.protocol import forget_head
from gateway.web.refusal import refusal, stream_head

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from gateway.auth.api_key_watch import ApiKeyWatch
    from gateway.fanout.backlog import Backlog
    from gateway.fanout.hub import Hub
    from gateway.fanout.replay import Replayer
    from gateway.metrics import GatewayMetrics
    from gateway.streams.connection import Send
    from gateway.streams.limits import StreamLimits
    from gateway.web.admission import Admission
    from gateway.web.cors import CorsPolicy
    from gateway.web.stream_request import StreamRequest
    from shared.position import Position
    from shared.tasks import Spawn

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Scope = MutableMapping[str, Any]


log = structlog.get_logger(__name__)


class StreamEndpoint:
    """Accepts streams."""

    def __init__(
        self,
        *,
        admission: Admission,
        limits: StreamLimits,
        hub: Hub,
        replayer: Replayer,
        backlog: Backlog,
        key_watch: ApiKeyWatch,
        metrics: GatewayMetrics,
        cors: CorsPolicy,
        most_pending_bytes: int,
        spawn: Spawn,
    ) -> None:
        self._admission = admission
        self._limits = limits
        self._hub = hub
        self._replayer = replayer
        self._backlog = backlog
        self._key_watch = key_watch
        self._metrics = metrics
        self._count_made_good: Callable[[], object] = metrics.resyncs.labels("policy").inc
        self._cors = cors
        self._most_pending_bytes = most_pending_bytes
        self._spawn = spawn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = Headers(scope=scope)
        cors = self._cors.headers(headers.get("origin"))
        address = client_address(scope)
        try:
            request = await self._admit(headers, scope["query_string"], address)
        except GatewayError as error:
            self._metrics.refused.labels(str(error.status)).inc()
            response = refusal(error, headers)
            response.headers.update(cors)
            await response(scope, receive, send)
            return
        try:
            head = stream_head(cors)
            wire = open_wire(head["headers"]) if (open_wire := scope.get("ayb.wire")) else None
            if wire is None:
                await send(head)
            end = _End()
            connection = self._connection(request, address, scope, send, end)
            if wire is not None:
                connection.attach(wire)
            del headers, cors, head, wire, open_wire  # a stream is long, and so are these
            abort = scope.get("ayb.abort")
            forget_head(scope)
            self._metrics.opened.inc()
            self._begin(connection, request)
            try:
                with self._key_watch.watching(request.identity.claims, connection.expire):
                    while connection.is_open:
                        message: MutableMapping[str, Any] = {"type": ""}
                        with end:
                            message = await receive()
                        if message["type"] == "http.disconnect":
                            connection.close(CloseReason.GONE)
            finally:
                connection.close(CloseReason.GONE)
                self._hub.leave(connection)
                self._replayer.discard(connection)
                self._metrics.closed.labels(str(connection.close_reason)).inc()
            await _finish(connection, abort, receive, send)
        except ConnectionError:
            pass  # the client has gone
        finally:
            self._limits.exit(request.user_id, address)

    async def _admit(self, headers: Headers, query_string: bytes, address: str) -> StreamRequest:
        try:
            request = await self._admission.check(headers, query_string, address)
            self._limits.enter(request.user_id, address)
        except GatewayError:
            raise
        except Exception as error:
            # A fault of ours is no reason for a browser to give up for good.
            log.exception("a stream request failed")
            raise InternalError from error
        return request

    def _connection(
        self, request: StreamRequest, address: str, scope: Scope, send: Send, end: _End
    ) -> Connection:
        """Make the connection of a response that has begun, or begins with its first frame."""
        return Connection(
            send=send,
            spawn=self._spawn,
            on_close=end.come,
            on_overflow=self._replay_at_its_own_pace,
            subscription=request.subscription,
            role=request.identity.role,
            settings=request.identity.settings,
            user_id=request.user_id,
            address=address,
            expires_at=request.expires_at,
            leave=request.leave,
            most_pending_bytes=self._most_pending_bytes,
            unsent=scope.get("ayb.unsent"),
            on_made_good=self._count_made_good,
        )

    def _replay_at_its_own_pace(self, slow: Connection) -> None:
        if self._hub.leave(slow):
            self._metrics.overflows.inc()
            self._replayer.add(slow)

    def _begin(self, connection: Connection, request: StreamRequest) -> None:
        """Send `connected` and make the connection live, or replay to it first."""
        position, error = request.position, None
        if position is not None:
            error = self._backlog.resume_error(position)
        elif request.last_event_id is not None:
            error = "unknown"
        if position is not None and error is None:
            connection.cursor = cursor_at(position)
            connection.write(sse.connected_frame(position, connection.client_id))
            self._metrics.resumed.inc()
            self._replayer.add(connection)
            return
        now: Position = self._hub.join(connection)
        if error is None:
            connection.write(sse.connected_frame(now, connection.client_id))
        else:
            self._metrics.resyncs.labels(error).inc()
            connection.write(
                sse.connected_frame(None, connection.client_id),
                sse.resync_frame(now, error, connection.tables),
            )
        if self._replayer.has_slow_table(connection) and self._hub.leave(connection):
            self._replayer.add(connection)


class _End:
    """Lets the server end a stream whose task waits in `receive`, without a second task.

    Within its `with` block, the end cancels the wait, and the block is left.
    """

    __slots__ = ("_came", "_task", "_waiting")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._waiting = False
        self._came = False

    def come(self) -> None:
        self._came = True
        if self._waiting and self._task is not None:
            self._task.cancel()

    def __enter__(self) -> None:
        self._waiting = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._waiting = False
        is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        return is_cancelled and self._came and self._task is not None and not self._task.uncancel()


async def _finish(
    connection: Connection, abort: Callable[[], None] | None, receive: Receive, send: Send
) -> None:
    """Complete the response, or cut the socket of a peer that takes nothing."""
    if connection.close_reason is CloseReason.GONE:
        return
    if connection.is_blocked:
        if abort is not None:
            abort()
            while (await receive())["type"] != "http.disconnect":
                pass
        return
    await send({"type": "http.response.body", "body": b"", "more_body": False})
