"""One stream that goes on through everything that ends a connection."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, TypeAlias

import httpx

from ayb_realtime.frames import Frame, FrameReader
from ayb_realtime.items import Change, Item, Resync, StreamError, Truncate
from ayb_realtime.tokens import seconds_until_renewal

log = logging.getLogger(__name__)

TokenReason: TypeAlias = Literal["connect", "expiring", "expired", "refused"]
Token: TypeAlias = str | Callable[[TokenReason], str | Awaitable[str | None] | None] | None

SILENCE_SECONDS: Final = 60.0
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 30.0
_SETTLED_SECONDS: Final = 5.0
_PERMANENT: Final = (400, 403, 414)


class RefusedError(Exception):
    """The gateway refuses the request, and would again; `status` and `message` say why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class _Ended(Exception):
    """The connection has ended, and the next one may begin after a delay; None is the usual one."""

    def __init__(self, why: str, delay: float | None = None) -> None:
        super().__init__(why)
        self.delay = delay


async def stream(
    url: str,
    tables: Iterable[str],
    *,
    token: Token = None,
    last_event_id: str | None = None,
    leave: bool = False,
    silence_seconds: float = SILENCE_SECONDS,
    client: httpx.AsyncClient | None = None,
    parse_float: Callable[[str], Any] = float,
    on_connect: Callable[[str], object] | None = None,
) -> AsyncGenerator[Item, None]:
    """Yield what happens to some tables, without end.

    `token` is a token, or a function, perhaps a coroutine function, that returns one: it is called
    for each connection with the reason, before a token ends, and when one is refused.
    `last_event_id` is the `position` of an item after which to continue. With `leave`, an update
    that takes a row out of the user's sight is a `delete`. After `silence_seconds` without a sign
    of life the stream is opened again. `parse_float=decimal.Decimal` keeps every digit of numbers
    that are no integers. `on_connect` is called with the position each time the stream is open:
    what is committed from the first call on arrives.

    An item that is not taken holds the stream up; the gateway then keeps the changes.

    Raises `RefusedError` if a table is unknown or may not be read, and for a token that is refused
    if it is not a function. Everything else is retried, and logged.
    """
    names = ",".join(tables)
    state = _State(position=last_event_id)
    async with contextlib.AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(httpx.AsyncClient())
        request = _Request(
            client=client,
            url=f"{url.rstrip('/')}/api/realtime",
            parameters={"tables": names, **({"leave": "true"} if leave else {})},
            token=token,
            silence_seconds=silence_seconds,
            parse_float=parse_float,
            on_connect=on_connect,
        )
        while True:
            began = time.monotonic()
            try:
                async with contextlib.aclosing(_connection(request, state)) as items:
                    async for item in items:
                        yield item
                        if item.position is not None:
                            state.position = item.position
            except _Ended as end:
                delay, why = end.delay, str(end)
            except (httpx.HTTPError, OSError) as error:
                delay, why = None, f"{type(error).__name__}: {error}"
            if time.monotonic() - began > _SETTLED_SECONDS:
                state.attempts = 0
            if delay is None:
                delay = _backoff(state.attempts)
                state.attempts += 1
            log.info("the stream ended (%s); continuing in %.1f s", why, delay)
            await asyncio.sleep(delay)


@dataclass(slots=True)
class _State:
    """What outlives a connection."""

    position: str | None
    attempts: int = 0
    token_reason: TokenReason = "connect"
    refusals: int = 0
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    client: httpx.AsyncClient
    url: str
    parameters: dict[str, str]
    token: Token
    silence_seconds: float
    parse_float: Callable[[str], Any]
    on_connect: Callable[[str], object] | None

    async def ask_for_token(self, reason: TokenReason) -> str | None:
        """Return a token, or None."""
        if not callable(self.token):
            return self.token
        given = self.token(reason)
        return await given if inspect.isawaitable(given) else given


async def _connection(request: _Request, state: _State) -> AsyncGenerator[Item, None]:
    """Yield the items of one connection; it ends with `_Ended`, or an error of the network."""
    token, state.next_token = state.next_token, None
    if token is None:
        token = await request.ask_for_token(state.token_reason)
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if state.position is not None:
        headers["Last-Event-ID"] = state.position
    timeout = httpx.Timeout(10.0, read=request.silence_seconds)
    async with request.client.stream(
        "GET", request.url, params=request.parameters, headers=headers, timeout=timeout
    ) as response:
        kind = response.headers.get("Content-Type", "")
        if response.status_code != httpx.codes.OK or not kind.startswith("text/event-stream"):
            await _refuse(request, state, response)
        async for item in _items(request, state, response, token or ""):
            yield item


async def _refuse(request: _Request, state: _State, response: httpx.Response) -> NoReturn:
    status = response.status_code
    message, is_ours = f"the server answered {status}", False
    with contextlib.suppress(ValueError, AttributeError):
        body = json.loads(await response.aread())
        is_ours = body.get("code") == status  # and not a proxy's page
        message = str(body.get("message", message))
    if status == httpx.codes.UNAUTHORIZED:
        if is_ours and not callable(request.token):
            raise RefusedError(status, message)
        state.token_reason = "refused"
        state.refusals += 1
        raise _Ended(message, 0.0 if state.refusals == 1 else None)
    if is_ours and status in _PERMANENT:
        raise RefusedError(status, message)
    wait = response.headers.get("Retry-After", "")
    is_number = wait.isascii() and wait.isdigit()
    raise _Ended(message, int(wait) * (1 + random.random() / 2) if is_number else None)


async def _items(
    request: _Request, state: _State, response: httpx.Response, token: str
) -> AsyncGenerator[Item, None]:
    good_for = seconds_until_renewal(token) if callable(request.token) else None
    renew_at = None if good_for is None else time.monotonic() + good_for
    reader, decoder = FrameReader(), _Decoder(request.parse_float)
    chunks = response.aiter_raw()
    while True:
        reading = asyncio.ensure_future(anext(chunks, None))
        try:
            left = None if renew_at is None else max(0.0, renew_at - time.monotonic())
            if left is not None and not (await asyncio.wait({reading}, timeout=left))[0]:
                renew_at = None
                new = await _new_token(request, token)
                if new != token:
                    state.next_token = new
                    raise _Ended("the token is replaced", 0.0)
            chunk = await reading
        finally:
            reading.cancel()
        if chunk is None:
            raise _Ended("the server ended it", decoder.retry_seconds)
        for frame in reader.push(chunk):
            for item in decoder.items(frame):
                yield item
            _control(request, state, decoder, frame)


async def _new_token(request: _Request, token: str) -> str | None:
    """Ask for a token to take the place of one that is still good, which stays if there is none."""
    try:
        return await request.ask_for_token("expiring")
    except Exception:  # whatever the caller's function raises
        log.warning("no new token; the present one is still good for a moment", exc_info=True)
        return token


def _control(request: _Request, state: _State, decoder: _Decoder, frame: Frame) -> None:
    """Act on a frame that is not for the caller; raises `_Ended` if the stream ends with it."""
    match frame.name:
        case "connected":
            state.token_reason, state.refusals = "connect", 0
            if state.position is None:
                state.position = frame.id
            if request.on_connect is not None:
                request.on_connect(frame.id or "")
        case "heartbeat" if frame.id is not None:
            state.position = frame.id
        case "expired":
            message = str(decoder.read(frame).get("message"))
            if not callable(request.token):
                raise RefusedError(401, message)
            state.token_reason = "expired"
            raise _Ended(message, 0.0)
        case "closing" | "busy":
            raise _Ended(str(decoder.read(frame).get("message")), decoder.retry_seconds)


@dataclass(slots=True)
class _Decoder:
    """From frames to items."""

    parse_float: Callable[[str], Any]
    retry_seconds: float | None = None
    _key_deletes: list[dict[str, Any]] = field(default_factory=list)
    _position: str | None = None

    def read(self, frame: Frame) -> dict[str, Any]:
        """Read the data of a frame."""
        data: dict[str, Any] = json.loads(frame.data, parse_float=self.parse_float)
        return data

    def retry(self, frame: Frame) -> None:
        """Keep when the server wants the client back."""
        if frame.retry is not None:
            self.retry_seconds = frame.retry / 1000 + random.random() / 2

    def items(self, frame: Frame) -> Iterator[Item]:
        """Yield what a frame says."""
        self.retry(frame)
        if frame.name == "message":
            change = self.read(frame)
            if frame.id is None:
                # The old key of a row whose key was changed: it belongs to the change after it.
                self._key_deletes.append(change)
                return
            deletes, self._key_deletes = self._key_deletes, []
            before, self._position = self._position or frame.id, frame.id
            for one in deletes:
                # Whoever stops here continues before the change, and gets both again.
                yield _change(one, before)
            yield _change(change, frame.id)
            return
        self._position = frame.id or self._position
        if frame.name == "resync":
            data = self.read(frame)
            yield Resync(data["reason"], tuple(data["tables"]), frame.id)
        elif frame.name == "truncate":
            yield Truncate(self.read(frame)["table"], frame.id)
        elif frame.name == "error":
            yield StreamError(self.read(frame)["message"], frame.id)


def _change(data: dict[str, Any], position: str) -> Change:
    truncated = bool(data.get("truncated", False))
    return Change(data["action"], data["table"], data["record"], position, truncated)


def _backoff(attempts: int) -> float:
    """Longer after each failure, and random, so that the clients of a restarted gateway spread."""
    most = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(attempts, 10))
    return most / 2 + random.random() * most / 2
