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
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from jose import jwk
from jose.exceptions import JWKError
from jose.utils import base64_to_long

from gateway.auth.jwks_source import KeyFile, KeySetError, KeyUrl
from shared.backoff import Backoff

if TYPE_CHECKING:
    from pathlib import Path

    from jose.backends.base import Key

log = structlog.get_logger(__name__)

_MOST_KEYS: Final = 64
_RSA_BITS: Final = range(2048, 8192 + 1)

_PARAMETERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
_ALGORITHM_OF: Final = {"RSA": "RS256", "EC": "ES256"}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, good for one algorithm only."""

    kid: str | None
    algorithm: str
    key: Key


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
    """Read a set; raises `KeySetError`.

    Only RSA keys of at least 2048 bits and EC keys on P-256 are used, and only their public
    parameters. A symmetric key that is published is no secret, so it is ignored, like keys for
    other uses and algorithms.
    """
    try:
        members = json.loads(text)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeySetError("not a JSON Web Key Set") from None
    if not isinstance(members, list) or len(members) > _MOST_KEYS:
        raise KeySetError(f"not a list of at most {_MOST_KEYS} keys")
    keys = tuple(key for key in map(_public_key, members) if key is not None)
    if not keys:
        raise KeySetError("no RSA or P-256 key for signatures in it")
    return KeySet(keys)


def _public_key(member: Any) -> PublicKey | None:  # noqa: ANN401 (any JSON)
    if not isinstance(member, dict):
        return None
    kind, kid = member.get("kty"), member.get("kid")
    if not isinstance(kind, str) or kind not in _PARAMETERS or not isinstance(kid, str | None):
        return None
    algorithm = _ALGORITHM_OF[kind]
    if (
        member.get("use", "sig") != "sig"
        or member.get("alg", algorithm) != algorithm
        or member.get("crv", "P-256") != "P-256"
        or not _may_verify(member.get("key_ops", ["verify"]))
    ):
        return None
    public = {"kty": kind, **{name: member.get(name) for name in _PARAMETERS[kind]}}
    try:
        key = jwk.construct(public, algorithm)
        bits = base64_to_long(str(public["n"])).bit_length() if kind == "RSA" else None
    except MemoryError:
        # Not a fault of the key: to leave it out would refuse its tokens.
        raise KeySetError("out of memory while a key of the set was read") from None
    except (JWKError, ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        log.warning("key of the key set ignored", kid=kid, reason=type(error).__name__)
        return None
    if bits is not None and bits not in _RSA_BITS:
        log.warning("key of the key set ignored", kid=kid, reason=f"{bits} bits")
        return None
    return PublicKey(kid, algorithm, key)


def _may_verify(operations: object) -> bool:
    return isinstance(operations, list) and "verify" in operations


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
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")

    @classmethod
    def of_file(cls, path: Path) -> LiveKeySet:
        """Follow a file, which must be good now; raises `KeySetError`."""
        source = KeyFile(path)
        live = cls(source)
        live._keys = parse_key_set(source.read_now())
        return live

    @classmethod
    def of_url(cls, url: str) -> LiveKeySet:
        """Follow a URL, which need not answer yet."""
        return cls(KeyUrl(url))

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
            self._keys = parse_key_set(await self._source.read())
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
