"""Ending the streams of API keys that are no longer valid.

A token ends by itself; a key may be revoked, deleted, or limited to other tables at any time. All
keys with open streams are looked up from time to time, together. A stream whose key is gone, or
whose claims have changed, is ended as at the end of a token; its client may come back and gets
what the key gives now. While the database is away nothing is known of a key, and nothing is
delivered either, so streams stay open.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from gateway.errors import GatewayError
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.auth.api_keys import ApiKeys
    from gateway.auth.claims import Claims

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 10.0


_NOT_WATCHING: Final = contextlib.nullcontext()


class ApiKeyWatch:
    """Knows the open streams of API keys; `keys` is None where API keys are not accepted."""

    def __init__(self, keys: ApiKeys | None, *, seconds: float = LOOK_SECONDS) -> None:
        self._keys = keys
        self._seconds = seconds
        self._streams: dict[str, dict[Callable[[], None], Claims]] = {}

    def __len__(self) -> int:
        """Count the keys that have open streams."""
        return len(self._streams)

    def watching(
        self, claims: Claims | None, expire: Callable[[], None]
    ) -> contextlib.AbstractContextManager[None]:
        """Call `expire` once the key of these claims is no longer valid; do nothing for tokens."""
        if claims is None or claims.key_digest is None:
            return _NOT_WATCHING
        return self._watching(claims, claims.key_digest, expire)

    @contextlib.contextmanager
    def _watching(self, claims: Claims, digest: str, expire: Callable[[], None]) -> Iterator[None]:
        streams = self._streams.setdefault(digest, {})
        streams[expire] = claims
        try:
            yield
        finally:
            del streams[expire]
            if not streams and self._streams.get(digest) is streams:
                del self._streams[digest]

    async def run(self) -> None:
        """Look from time to time, until cancelled; return at once where there are no keys."""
        while self._keys is not None:
            await asyncio.sleep(self._seconds)
            if not self._streams:
                continue
            asked = {digest: dict(streams) for digest, streams in self._streams.items()}
            try:
                current = await self._keys.current(list(asked))
            except (DatabaseUnavailableError, GatewayError) as error:
                log.warning("API keys not checked, their streams stay open", error=str(error))
                continue
            self._end(asked, current)

    def _end(
        self, asked: dict[str, dict[Callable[[], None], Claims]], current: dict[str, Claims]
    ) -> None:
        """End streams that were open before the question; of later ones it says nothing."""
        for digest, streams in asked.items():
            now = current.get(digest)
            for expire, claims in streams.items():
                if now != claims and expire in self._streams.get(digest, {}):
                    log.info("stream ended", reason="its API key was revoked, or has changed")
                    expire()
