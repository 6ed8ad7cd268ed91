"""Beginning, renewing and ending sessions, with AYB's own table of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from gateway.auth.issuer import REFRESH_SECONDS
from gateway.auth.jws import TokenRefusedError
from gateway.errors import (
    InvalidCredentialsError,
    InvalidRefreshTokenError,
    SecondFactorRequiredError,
)

if TYPE_CHECKING:
    from gateway.auth.issuer import RefreshClaims, TokenIssuer
    from gateway.auth.passwords import PasswordChecker
    from gateway.auth.revoked_sessions import RevokedSessions
    from gateway.auth.throttle import LoginThrottle
    from gateway.auth.users import User, Users

log = structlog.get_logger(__name__)

_UNDER_WAY_SECONDS: Final = 120
"""How long a renewal may take that has looked its session up before the log-out."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a login gives."""

    user: User
    token: str
    refresh_token: str


class Login:
    """Checks what users present, and opens sessions.

    Its methods raise the refusals of `gateway.errors`, and `DatabaseUnavailableError`. Renewal and
    log-out need `revoked`, and raise `SessionsUnavailableError` while it cannot be asked.
    """

    def __init__(
        self,
        *,
        users: Users,
        issuer: TokenIssuer,
        passwords: PasswordChecker,
        throttle: LoginThrottle,
        revoked: RevokedSessions,
    ) -> None:
        self._users = users
        self._issuer = issuer
        self._passwords = passwords
        self._throttle = throttle
        self._revoked = revoked

    async def log_in(self, email: str, password: str, address: str) -> Session:
        """Check a password. `address` is the client's."""
        email = email.strip().lower()
        with self._throttle.counting_failures(address, email):
            user = await self._users.by_email(email)
            stored = None if user is None else user.password_hash
            is_right = await self._passwords.is_right(password, stored)
            if user is None or not is_right:
                log.info("login refused", address=address)
                raise InvalidCredentialsError
        return await self._session(user)

    async def renew(self, refresh_token: str) -> Session:
        """Check a refresh token, its session, the user, and that the password is still the same."""
        claims = self._read(refresh_token)
        if await self._revoked.has(self._issuer.session_digest(claims.session)):
            log.info("refresh token refused", reason="logged out")
            raise InvalidRefreshTokenError
        user = await self._users.by_id(claims.user_id)
        if user is None or not self._issuer.is_current(
            claims.password_mark, user.password_hash or ""
        ):
            log.info("refresh token refused", reason="password changed, or no such user")
            raise InvalidRefreshTokenError
        return await self._session(user, claims.session)

    async def log_out(self, refresh_token: str) -> None:
        """Void all refresh tokens of the session; do nothing if the token is not valid anyway."""
        try:
            claims = self._read(refresh_token)
        except InvalidRefreshTokenError:
            return
        # No refresh token of the session can be younger than one that is being made now.
        seconds = REFRESH_SECONDS + _UNDER_WAY_SECONDS
        await self._revoked.add(self._issuer.session_digest(claims.session), seconds)

    def _read(self, refresh_token: str) -> RefreshClaims:
        try:
            return self._issuer.read_refresh_token(refresh_token)
        except TokenRefusedError as error:
            log.info("refresh token refused", reason=str(error))
            raise InvalidRefreshTokenError from None

    async def _session(self, user: User, session: str | None = None) -> Session:
        if await self._users.has_second_factor(user.id):
            raise SecondFactorRequiredError
        return Session(
            user=user,
            token=self._issuer.access_token(user.id, user.email),
            refresh_token=self._issuer.refresh_token(user.id, user.password_hash or "", session),
        )
