"""Tokens that have been verified, so that a client's next stream needs no signature check.

Tabs and reconnects present the same token, and all at once after a gateway has restarted. The
claims of a token are kept under its SHA-256 until its `exp`, and all are forgotten when the keys
change, so a withdrawn key verifies nothing from then on. The token itself is not kept. Neither are
refusals, nor API keys, which may be revoked at any time.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.auth.claims import Claims

MOST_BYTES: Final = 16 * 1024 * 1024
_ENTRY_BYTES: Final = 700
"""Roughly what an entry takes besides its texts."""


class VerifiedTokens:
    """Claims of the most recently used tokens, within a bound in bytes."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._keys: object = None
        self._kept: dict[bytes, tuple[Claims, int]] = {}  # the first was used the longest ago
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Roughly how many bytes the kept claims take."""
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
        # The texts of the settings repeat those of the payload, at most once.
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
