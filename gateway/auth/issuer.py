"""The tokens that a login hands out.

An access token is like every AYB token: HS256 with the shared secret, so that AYB and all gateways
accept it. A refresh token is signed with a key of its own, derived from the secret: neither passes
for the other, whatever its claims.

Nothing is stored, so any gateway can renew a session that another began, and a single session
cannot be revoked. But a refresh token holds a fingerprint of the password's hash: it becomes void
with a new password, or when the user is deleted.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from jose import jwt

from gateway.auth.claims import seconds_of
from gateway.auth.jws import TokenRefusedError, parse_object, parse_token
from gateway.auth.shared_secret import SharedSecret
from gateway.auth.verifier import check_signature

if TYPE_CHECKING:
    from collections.abc import Callable

ACCESS_SECONDS: Final = 15 * 60
REFRESH_SECONDS: Final = 7 * 24 * 60 * 60

_REFRESH: Final = "ayb-realtime refresh token"


class TokenIssuer:
    """Signs access and refresh tokens, and reads the latter."""

    def __init__(
        self,
        secret: str,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._refresh_secret = _fingerprint(secret, _REFRESH)
        self._common = {
            name: value for name, value in (("iss", issuer), ("aud", audience)) if value is not None
        }
        self._clock = clock

    def access_token(self, user_id: str, email: str) -> str:
        """Sign a token that opens streams for 15 minutes."""
        now = int(self._clock())
        claims = {
            "sub": user_id,
            "email": email,
            "iat": now,
            "exp": now + ACCESS_SECONDS,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode({**claims, **self._common}, self._secret, algorithm="HS256")

    def refresh_token(self, user_id: str, password_hash: str) -> str:
        """Sign a token that gets new tokens for 7 days, as long as the password stays."""
        now = int(self._clock())
        claims: dict[str, Any] = {
            "typ": "refresh",
            "sub": user_id,
            "iat": now,
            "exp": now + REFRESH_SECONDS,
            "pwd": self._password_mark(password_hash),
        }
        return jwt.encode(claims, self._refresh_secret, algorithm="HS256")

    def user_of(self, refresh_token: str) -> tuple[str, str]:
        """Read a refresh token: the user's id, and the mark for `is_current`.

        Raises `TokenRefusedError`.
        """
        signed = parse_token(refresh_token)
        if signed.algorithm != "HS256":
            raise TokenRefusedError("algorithm is not accepted")
        check_signature(signed, [SharedSecret(self._refresh_secret)])
        claims = parse_object(signed.payload)
        if seconds_of(claims, "exp") <= self._clock():
            raise TokenRefusedError("expired")
        return str(claims["sub"]), str(claims["pwd"])

    def is_current(self, mark: str, password_hash: str) -> bool:
        """Return whether the password is still the one that a refresh token was made for."""
        return hmac.compare_digest(mark, self._password_mark(password_hash))

    def _password_mark(self, password_hash: str) -> str:
        return _fingerprint(self._refresh_secret, password_hash)[:32]


def _fingerprint(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
