"""The public keys that sign tokens: a JSON Web Key Set (RFC 7517) from a file or a URL.

A set is read again from time to time, and at once when a token names a key that is not in it: that
is how keys are rotated. Anyone can make up such tokens, so the latter happens at most once in some
seconds, and once for all that wait. A set that cannot be read, or has no key for us, never replaces
the previous one.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from gateway.auth.jwks_source import KeyFile, KeySetError, KeyUrl
from gateway.auth.public_key import PublicKey, read_public_key
from shared.backoff import Backoff

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.auth.public_key import Key

log = structlog.get_logger(__name__)

_MOST_KEYS: Final = 64


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that were in a set and are for verifying signatures."""

    keys: tuple[PublicKey, ...]

    def find(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """Find the keys of a token: by its `kid`, or all of its algorithm where it has none."""
        return tuple(
            key.key
            for key in self.keys
            if key.algorithm == algorithm and (kid is None or key.kid == kid)
        )


def parse_key_set(text: bytes) -> KeySet:
    """Read a set; raises `KeySetError`. Members that are no keys for us are ignored."""
    try:
        members = json.loads(text)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeySetError("not a JSON Web Key Set") from None
    if not isinstance(members, list) or len(members) > _MOST_KEYS:
        raise KeySetError(f"not a list of at most {_MOST_KEYS} keys")
    try:
        keys = tuple(key for key in map(read_public_key, members) if key is not None)
    except MemoryError:
        # Not a fault of the key: to leave it out would refuse its tokens.
        raise KeySetError("out of memory while a key of the set was read") from None
    if not keys:
        raise KeySetError("no public key for signatures in it")
    return KeySet(keys)


class KeySource(Protocol):
    """Where a key set is read from."""

    name: str
    refresh_seconds: float
    """How often it is read."""

    spare_seconds: float
    """How soon after one reading the next may be asked for by a token."""

    async def read(self) -> bytes:
        """Read the set's text; raises `KeySetError`."""

    async def close(self) -> None:
        """Release what is held."""


class LiveKeySet:
    """A key set that follows its source."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._keys: KeySet | None = None
        self._text = b""
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")

    @classmethod
    def of_file(cls, path: Path) -> LiveKeySet:
        """Follow a file, which must be good now; raises `KeySetError`."""
        source = KeyFile(path)
        live = cls(source)
        live._text = source.read_now()
        live._keys = parse_key_set(live._text)
        return live

    @classmethod
    def of_url(cls, url: str) -> LiveKeySet:
        """Follow a URL, which need not answer yet."""
        return cls(KeyUrl(url))

    @property
    def current(self) -> KeySet | None:
        """The set in force, the same object until the set changes; None if none was ever read."""
        return self._keys

    @property
    def is_known(self) -> bool:
        """Whether a set was ever read."""
        return self._keys is not None

    async def find(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """Find the keys of a token; read the set again if it has none."""
        found = self._find(algorithm, kid)
        if found:
            return found
        async with self._reading:  # a task that waited finds what the one before it has read
            if time.monotonic() - self._read_at >= self._source.spare_seconds:
                await self._read()
        return self._find(algorithm, kid)

    async def run(self) -> None:
        """Read the set from time to time, sooner while it cannot be read."""
        backoff = Backoff(first_seconds=1, most_seconds=self._source.refresh_seconds)
        try:
            while True:
                async with self._reading:
                    is_good = await self._read()
                if is_good:
                    backoff.reset()
                    await asyncio.sleep(self._source.refresh_seconds)
                else:
                    await asyncio.sleep(backoff.next_seconds())
        finally:
            await self._source.close()

    def _find(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        return () if self._keys is None else self._keys.find(algorithm, kid)

    async def _read(self) -> bool:
        try:
            text = await self._source.read()
            if self._keys is None or text != self._text:
                self._keys = parse_key_set(text)
                self._text = text
        except KeySetError as error:
            log.warning(
                "key set not read, keeping the previous one",
                source=self._source.name,
                reason=str(error),
                known=self.is_known,
            )
            return False
        else:
            return True
        finally:
            self._read_at = time.monotonic()
