"""Connections to Redis or Valkey."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

UNAVAILABLE: Final = (RedisError, OSError, TimeoutError)
"""Errors after which the connection is opened again."""

_KEEPALIVE: Final = (
    (getattr(socket, "TCP_KEEPIDLE", None), 5),
    (getattr(socket, "TCP_KEEPINTVL", None), 3),
    (getattr(socket, "TCP_KEEPCNT", None), 3),
)


def redis_client(url: str, *, answer_seconds: float | None = 5.0) -> redis.Redis:
    """Make a client that neither retries nor reconnects by itself: its caller decides.

    Every wait for an answer is bounded, so that a frozen server is noticed.
    """
    extra: dict[str, Any] = {}
    if not url.startswith("unix://"):
        extra["socket_keepalive"] = True
        extra["socket_keepalive_options"] = {
            number: value for number, value in _KEEPALIVE if number is not None
        }
    pool = redis.ConnectionPool.from_url(
        url,
        socket_connect_timeout=5.0,
        socket_timeout=answer_seconds,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        **extra,
    )
    pool.connection_class = type("Connection", (_ClosedIsUnavailable, pool.connection_class), {})
    return redis.Redis.from_pool(pool)


def describe(error: BaseException, url: str) -> str:
    """Say in one line what went wrong with the Redis at `url`; some errors say nothing."""
    if isinstance(error, (TimeoutError, RedisTimeoutError)):
        tls = "; rediss:// needs a port that speaks TLS" if url.startswith("rediss://") else ""
        return f"no answer in time{tls}"
    return str(error).partition("\n")[0] or type(error).__name__


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
