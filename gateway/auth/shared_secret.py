"""The secret that issuer and gateway share, for HS256."""

from __future__ import annotations

import hmac


class SharedSecret:
    """Verifies HMAC-SHA256 (RFC 7518, section 3.2) with a secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether the secret made this signature over this message."""
        return hmac.compare_digest(hmac.digest(self._secret, message, "sha256"), signature)
