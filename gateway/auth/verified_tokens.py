"""Tokens that were verified a moment ago, so that the next stream of a client costs no signature.

Tabs and reconnects come with the same token, after a restart of a gateway all at once. What a token
says is kept under its SHA-256 until its `exp`, and forgotten when the keys change: a key that was
withdrawn verifies nothing from then on. The token itself is not kept. Refusals are not kept either,
and nor are API keys, which may be revoked at any time.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.auth.claims import Claims

MOST_BYTES: Final = 16 * 1024 * 1024
_ENTRY_BYTES: Final = 700
"""What an entry takes beside its texts, about."""


class VerifiedTokens:
    """Claims by token, the most recently used ones, within a bound of bytes."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._keys: object = None
        self._kept: dict[bytes, tuple[Claims, int]] = {}  # the first was used the longest ago
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """How much the claims that are kept take, about."""
        return self._bytes

    def get(self, token: str, keys: object) -> Claims | None:
        """Return the claims of a token that one of these keys verified; they may have expired."""
        if keys is not self._keys:
            self._forget(keys)
            return None
        digest = _digest(token)
        found = self._kept.pop(digest, None)
        if found is None:
            return None
        self._kept[digest] = found
        return found[0]

    def keep(self, token: str, keys: object, claims: Claims) -> None:
        """Keep the claims of a token that one of these keys has verified."""
        if keys is not self._keys:
            self._forget(keys)
        digest = _digest(token)
        # The texts of the settings are those of the payload once more, at most.
        size = _ENTRY_BYTES + 2 * len(claims.payload.encode())
        self._bytes -= self._kept.pop(digest, (claims, 0))[1]
        self._kept[digest] = claims, size
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._bytes -= self._kept.pop(next(iter(self._kept)))[1]

    def _forget(self, keys: object) -> None:
        self._keys = keys
        self._kept.clear()
        self._bytes = 0


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
