"""`GET /api/realtime?oauth=true`: AYB's own stream, passed through.

The AYB client opens this stream while a user signs in with another provider in a pop-up window. Its
one event has the tokens, which only AYB's server can make. So where a deployment leads
`/api/realtime` to the gateway, the gateway passes this stream on to that server, and to no other
address: of the request only the fact that it was sent goes along, and the client's address. If
either side ends, so does the other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import httpx
import structlog
from starlette.datastructures import Headers

from gateway.client_network import client_address, network_of
from gateway.errors import (
    ConnectionLimitError,
    GatewayError,
    OAuthElsewhereError,
    OAuthUnavailableError,
    ShuttingDownError,
)
from gateway.web.refusal import EVENT_STREAM, refusal, stream_head
from gateway.web.stream_request import parse_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from gateway.streams.connection import Send
    from gateway.streams.drain import Drain
    from gateway.streams.limits import StreamLimits
    from gateway.web.cors import CorsPolicy

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Scope = MutableMapping[str, Any]

log = structlog.get_logger(__name__)

ANSWER_SECONDS: Final = 10.0
MOST_SECONDS: Final = 15 * 60.0
"""How long a stream may take: as long as a user may take to sign in."""

MOST_BYTES: Final = 256 * 1024
MOST_AT_A_TIME: Final = 1_000
MOST_OF_A_NETWORK: Final = 100
"""How many of them one network may have, so that a stranger cannot keep all others out. Behind a
proxy that is not believed (`AYB_FORWARDED_ALLOW_IPS`) all clients are one network.
"""

_VIA: Final = "1.1 ayb-realtime"


class OAuthStream:
    """Passes these streams on to AYB's server at `server_url`, or refuses them if that is None."""

    def __init__(
        self, server_url: str | None, *, limits: StreamLimits, drain: Drain, cors: CorsPolicy
    ) -> None:
        self._url = None if server_url is None else f"{server_url.rstrip('/')}/api/realtime"
        self._limits = limits
        self._drain = drain
        self._cors = cors
        self._places = asyncio.Semaphore(MOST_AT_A_TIME)
        self._by_network: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_SECONDS, read=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            follow_redirects=False,
            trust_env=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = Headers(scope=scope)
        address = client_address(scope)
        network = network_of(address)
        try:
            self._check(headers, network)
            self._limits.enter("", address)
        except GatewayError as error:
            await self._refuse(error, headers, scope, receive, send)
            return
        self._by_network[network] += 1
        try:
            await self._pass_on(address, headers, receive, send)
        except GatewayError as error:
            await self._refuse(error, headers, scope, receive, send)
        except ConnectionError:
            pass  # the client has gone
        finally:
            self._limits.exit("", address)
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]

    async def close(self) -> None:
        """End all streams."""
        self._stopping.set()
        await self._client.aclose()

    def _check(self, headers: Headers, network: str) -> None:
        if self._drain.is_refusing:
            raise ShuttingDownError
        if self._url is None:
            raise OAuthElsewhereError
        if any(_VIA in value for value in headers.getlist("via")):
            log.error("AYB_SERVER_URL leads back to the gateway: it must name AYB's own server")
            raise OAuthElsewhereError
        if self._by_network.get(network, 0) >= MOST_OF_A_NETWORK:
            raise ConnectionLimitError
        if self._places.locked():
            raise OAuthUnavailableError

    async def _pass_on(self, address: str, headers: Headers, receive: Receive, send: Send) -> None:
        assert self._url is not None  # noqa: S101 (checked before)
        async with self._places:
            request = self._client.build_request(
                "GET",
                self._url,
                params={"oauth": "true"},
                headers={
                    "Accept": EVENT_STREAM,
                    "Accept-Encoding": "identity",
                    "Via": _VIA,
                    **({"X-Forwarded-For": address} if address else {}),
                },
            )
            ending = asyncio.ensure_future(self._end(receive))
            try:
                response = await _first(self._answer(request), ending)
                if response is None:
                    return
                try:
                    await send(stream_head(self._cors.headers(headers.get("origin"))))
                    await _first(_copy(response, send), ending)
                finally:
                    await response.aclose()
            finally:
                ending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await ending
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._client.send(request, stream=True)
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            log.warning("AYB's server does not answer", error=type(error).__name__)
            raise OAuthUnavailableError from error
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code != httpx.codes.OK or kind != EVENT_STREAM:
            await response.aclose()
            log.warning(
                "AYB's server does not answer with a stream", status=response.status_code, type=kind
            )
            raise OAuthUnavailableError
        return response

    async def _end(self, receive: Receive) -> None:
        """Return when the client has gone, the time is up, or the gateway stops."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOST_SECONDS):
                    await _first(_gone(receive), stopping)
        finally:
            stopping.cancel()

    async def _refuse(
        self, error: GatewayError, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        response = refusal(error, headers)
        response.headers.update(self._cors.headers(headers.get("origin")))
        await response(scope, receive, send)


def is_oauth(query_string: bytes) -> bool:
    """Whether a stream request is for AYB's own stream."""
    if b"oauth" not in query_string:
        return False
    try:
        return parse_query(query_string).get("oauth") == "true"
    except GatewayError:
        return False  # the stream's endpoint refuses it


async def _copy(response: httpx.Response, send: Send) -> None:
    """Pass the stream on as it comes, up to its bound."""
    count = 0
    with contextlib.suppress(httpx.HTTPError):  # its end, however it came, is the stream's
        async for chunk in response.aiter_raw():
            count += len(chunk)
            if count > MOST_BYTES:
                log.warning("AYB's stream is longer than is passed on", bytes=MOST_BYTES)
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first(work: Awaitable[Any], other: asyncio.Future[Any]) -> Any:  # noqa: ANN401
    """Await work unless something else comes first; return its result, or None."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, other), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
