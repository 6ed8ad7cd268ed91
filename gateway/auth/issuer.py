"""The tokens that a login hands out.

An access token is like every AYB token: HS256 with the shared secret, so that AYB and all gateways
accept it. A refresh token is signed with a key of its own, derived from the secret: neither passes
for the other, whatever its claims.

Nothing is stored, so any gateway can renew a session that another began. A refresh token holds a
fingerprint of the password's hash: it becomes void with a new password, or when the user is
deleted. It also names its session, which all refresh tokens after one login share, so that a
log-out can void them all (see `gateway.auth.revoked_sessions`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """What a refresh token says; `password_mark` is for `TokenIssuer.is_current`."""

    user_id: str
    password_mark: str = field(repr=False)
    session: str = field(repr=False)


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

    def refresh_token(self, user_id: str, password_hash: str, session: str | None = None) -> str:
        """Sign a token that gets new tokens for 7 days, as long as the password stays.

        It belongs to a session, a new one if none is given.
        """
        now = int(self._clock())
        claims: dict[str, Any] = {
            "typ": "refresh",
            "sub": user_id,
            "iat": now,
            "exp": now + REFRESH_SECONDS,
            "pwd": self._password_mark(password_hash),
            "sid": session or secrets.token_hex(16),
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._refresh_secret, algorithm="HS256")

    def read_refresh_token(self, refresh_token: str) -> RefreshClaims:
        """Read a refresh token; raises `TokenRefusedError`."""
        signed = parse_token(refresh_token)
        if signed.algorithm != "HS256":
            raise TokenRefusedError("algorithm is not accepted")
        check_signature(signed, [SharedSecret(self._refresh_secret)])
        claims = parse_object(signed.payload)
        if seconds_of(claims, "exp") <= self._clock():
            raise TokenRefusedError("expired")
        # A token of a release without sessions is the only one of its own.
        session = str(claims.get("sid") or _fingerprint(self._refresh_secret, refresh_token))
        return RefreshClaims(str(claims["sub"]), str(claims["pwd"]), session)

    def session_digest(self, session: str) -> str:
        """Return what a session is recorded under, which says nothing of its tokens."""
        return _fingerprint(self._refresh_secret, f"session {session}")

    def is_current(self, mark: str, password_hash: str) -> bool:
        """Return whether the password is still the one that a refresh token was made for."""
        return hmac.compare_digest(mark, self._password_mark(password_hash))

    def _password_mark(self, password_hash: str) -> str:
        return _fingerprint(self._refresh_secret, password_hash)[:32]


def _fingerprint(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
