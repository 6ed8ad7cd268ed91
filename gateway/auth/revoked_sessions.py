"""Sessions that were logged out, in Redis, so that all gateways know.

A session is what a login began; each refresh token of it names it. A log-out records the session
for as long as any of its refresh tokens can be valid, and every refresh looks it up first. If Redis
cannot be asked, neither succeeds: a refresh that nobody could check must not bring a session back.

Records are kept under a digest made with the secret that signs refresh tokens, so deployments that
share a Redis server cannot meet unless they share their tokens, too. What Redis loses (a restart
without persistence, eviction, a failover to a replica that lacks the last writes) is forgotten:
docs/security.md says how to avoid that.

Each question has a connection of its own. They are rare, and a connection that was kept could lead
to a server that is no longer the master.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import MovedError, NoPermissionError

from gateway.errors import SessionsUnavailableError
from shared.channels import ROOT
from shared.redis import UNAVAILABLE, close_client, describe, heed_cancellation, redis_client
from shared.url import split_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

ANSWER_SECONDS: Final = 3.0
AT_A_TIME: Final = 8


class RevokedSessions:
    """The sessions that were logged out. `prefix` begins the names of the keys."""

    def __init__(self, url: str, *, prefix: str | None = None) -> None:
        self._url = url
        self._prefix = f"{prefix or ROOT}:logout:"
        self._places = asyncio.Semaphore(AT_A_TIME)

    async def add(self, session: str, seconds: int) -> None:
        """Record that a session ended; forget it after some seconds.

        Raises `SessionsUnavailableError`.
        """
        name = self._prefix + session
        await self._ask(lambda redis: redis.set(name, b"1", ex=seconds))

    async def has(self, session: str) -> bool:
        """Return whether a session was logged out; raises `SessionsUnavailableError`."""
        name = self._prefix + session
        return bool(await self._ask(lambda redis: redis.exists(name)))

    async def _ask(self, command: Callable[[Redis], Awaitable[object]]) -> object:
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._places:
                try:
                    return await _answer(self._url, command)
                except MovedError as moved:  # the URL is that of a node of a cluster
                    return await _answer(_at(self._url, moved.host, moved.port), command)
        except NoPermissionError as error:
            log.error(  # noqa: TRY400 (the remedy, not the stack)
                "log-out needs SET and EXISTS on keys in Redis",
                keys=f"{self._prefix}*",
                error=describe(error, self._url),
            )
            raise SessionsUnavailableError from error
        except UNAVAILABLE as error:
            heed_cancellation()
            log.warning("sessions not readable in redis", error=describe(error, self._url))
            raise SessionsUnavailableError from error


async def _answer(url: str, command: Callable[[Redis], Awaitable[object]]) -> object:
    client = redis_client(url, answer_seconds=ANSWER_SECONDS)
    try:
        return await command(client)
    finally:
        await close_client(client)


def _at(url: str, host: str, port: int) -> str:
    """Return the URL with another host and port."""
    parts = split_url(url)
    login, at, _ = parts.netloc.rpartition("@")
    where = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=f"{login}{at}{where}:{port}").geturl()
