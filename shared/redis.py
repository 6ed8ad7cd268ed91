"""Connections to Redis or Valkey: to one server, or to the master that Sentinels name.

Sentinels may disagree briefly after a failover, or for as long as a partition lasts. So all of them
are asked at once, and the answer with the newest configuration counts. A former master that the
Sentinels cannot reach continues to answer its clients, but nothing is published to it any more:
`follow_master` ends connections to it.

A Redis Cluster needs none of this: each node forwards published messages to all others, so the URL
of any one node is enough, or a name that resolves to all of them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis_target import RedisTarget
from shared.redis_url import sentinel_master
from shared.tls_advice import REDIS, certificate_advice, unreadable_files
from shared.url import split_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.redis_url import SentinelMaster

UNAVAILABLE: Final = (RedisError, OSError, TimeoutError)
"""Errors after which the connection is opened again."""

_SENTINEL_SECONDS: Final = 2.0
_FOLLOW_SECONDS: Final = 2.0
_CLOSE_SECONDS: Final = 1.0

_KEEPALIVE: Final = (
    (getattr(socket, "TCP_KEEPIDLE", None), 5),
    (getattr(socket, "TCP_KEEPINTVL", None), 3),
    (getattr(socket, "TCP_KEEPCNT", None), 3),
)


def redis_client(url: str, *, answer_seconds: float | None = 5.0) -> redis.Redis:
    """Make a client that neither retries nor reconnects by itself: its caller decides.

    A wait for an answer raises redis-py's `TimeoutError` after `answer_seconds`, so that a frozen
    server is noticed. With None, as for a client that subscribes, the caller has to notice. Raises
    `ValueError` for a URL that cannot be used.
    """
    url = RedisTarget.of(url).url
    options: dict[str, Any] = {
        "socket_connect_timeout": 5.0,
        "socket_timeout": answer_seconds,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # Of RESP3 redis-py writes each message into a line for its log, whether that is on or not.
        "protocol": 2,
    }
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
        options["socket_keepalive_options"] = {
            number: value for number, value in _KEEPALIVE if number is not None
        }
    master = sentinel_master(url)
    if master is not None:
        return _MasterClient.of(master, options)
    pool = redis.ConnectionPool.from_url(url, **options)
    pool.connection_class = type("Connection", (_ClosedIsUnavailable, pool.connection_class), {})
    return redis.Redis.from_pool(pool)


async def close_client(client: redis.Redis) -> None:
    """Close a client's connections within a second, ignoring errors of those already lost.

    Only memory is at stake: the server notices by itself that a connection has gone.
    """
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await client.aclose()
    except UNAVAILABLE:
        pass


async def follow_master(client: redis.Redis) -> None:
    """Watch the Sentinels for as long as `client` is connected to the master that they name.

    Raises redis-py's `ConnectionError` when they name another one. Never returns for a client of
    one server, or while no Sentinel answers.
    """
    if not isinstance(client, _MasterClient):
        await asyncio.Event().wait()
        return
    pool = cast("SentinelConnectionPool", client.connection_pool)
    connected = pool.master_address
    while True:
        await asyncio.sleep(_FOLLOW_SECONDS)
        try:
            named = await client.sentinels.discover_master(pool.service_name)
        except UNAVAILABLE:
            continue
        if named != connected:
            host, port = named
            raise RedisConnectionError(f"the Sentinels name another master: {host}:{port}")


def describe(error: BaseException, url: str) -> str:
    """Say in one line what went wrong with the Redis at `url`; some errors say nothing."""
    if isinstance(error, (TimeoutError, RedisTimeoutError)):
        tls = (
            "; rediss:// needs a port that speaks TLS"
            if url.startswith(("rediss://", "rediss+"))
            else ""
        )
        return f"no answer in time{tls}"
    said = str(error).partition("\n")[0] or type(error).__name__
    # redis-py keeps the number and the text of what went wrong below, and not its kind.
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{said.rstrip('.')}: {certificate_advice(cause, REDIS)}"
    if isinstance(cause, (FileNotFoundError, PermissionError, ssl.SSLError)):
        files = unreadable_files(parse_qsl(split_url(url).query), REDIS)
        return said if files is None else f"{said.rstrip('.')}: {files}"
    return said


class _Sentinels(Sentinel):
    """Sentinels that are asked all at once; the answer with the newest configuration counts."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the master's address; raises `MasterNotFoundError`."""
        answers = await asyncio.gather(
            *(sentinel.sentinel_masters() for sentinel in self.sentinels), return_exceptions=True
        )
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        for error in errors:
            if not isinstance(error, UNAVAILABLE):
                raise error
        states = [
            answer[service_name]
            for answer in answers
            if isinstance(answer, dict) and service_name in answer
        ]
        master = newest_master(states)
        if master is None:
            raise MasterNotFoundError(_why_no_master(service_name, len(answers), states, errors))
        return master


def newest_master(states: Sequence[Mapping[str, Any]]) -> tuple[str, int] | None:
    """Return the master's address by what each Sentinel says of it; None if it is not healthy.

    Each failover has a higher epoch of the configuration than the one before. A Sentinel that has
    missed it names the previous master.
    """
    newest = max((state["config-epoch"] for state in states), default=0)
    for state in states:
        is_healthy = state["is_master"] and not (state["is_sdown"] or state["is_odown"])
        if state["config-epoch"] == newest and is_healthy:
            return state["ip"], state["port"]
    return None


def _why_no_master(
    name: str, sentinels: int, states: Sequence[object], errors: Sequence[BaseException]
) -> str:
    if states:
        return f"the Sentinels find that their master {name} is down"
    if len(errors) < sentinels:
        return f"no Sentinel knows a master called {name}"
    if any("unknown command" in str(error) for error in errors):
        return "the URL names Sentinels, but a Redis server answers there"
    return f"no Sentinel answers: {describe(errors[0], '')}"


class _MasterClient(redis.Redis):
    """A client of the master that Sentinels name."""

    sentinels: _Sentinels

    @classmethod
    def of(cls, master: SentinelMaster, options: Mapping[str, Any]) -> _MasterClient:
        kind = SentinelManagedSSLConnection if master.is_tls else SentinelManagedConnection
        sentinels = _Sentinels(  # type: ignore[no-untyped-call]
            master.sentinels,
            sentinel_kwargs={
                **options,
                "socket_connect_timeout": _SENTINEL_SECONDS,
                "socket_timeout": _SENTINEL_SECONDS,
                "ssl": master.is_tls,
                **master.sentinel_options,
            },
            connection_class=type("Connection", (_ClosedIsUnavailable, kind), {}),
            **{**options, **master.options},
        )
        client: _MasterClient = sentinels.master_for(master.name, redis_class=cls)
        client.sentinels = sentinels
        return client

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to the master and to the Sentinels."""
        try:
            await super().aclose(close_connection_pool)
        finally:
            await self.sentinels.aclose()


class _ClosedIsUnavailable:
    """Writes to a connection that has just been lost, which uvloop answers with a RuntimeError."""

    async def send_packed_command(self, *arguments: object, **options: object) -> None:
        try:
            await super().send_packed_command(*arguments, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise RedisConnectionError(f"connection lost: {error}") from error


def heed_cancellation() -> None:
    """Raise `CancelledError` if this task was cancelled during a call to redis-py.

    Its timeouts can turn a cancellation into an error of their own, or lose it; this was seen while
    it connected.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
