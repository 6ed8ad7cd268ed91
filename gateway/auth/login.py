"""Turning passwords and refresh tokens into sessions, with AYB's own table of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway.auth.jws import TokenRefusedError
from gateway.errors import (
    InvalidCredentialsError,
    InvalidRefreshTokenError,
    SecondFactorRequiredError,
)

if TYPE_CHECKING:
    from gateway.auth.issuer import TokenIssuer
    from gateway.auth.passwords import PasswordChecker
    from gateway.auth.throttle import LoginThrottle
    from gateway.auth.users import User, Users

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """What a login gives."""

    user: User
    token: str
    refresh_token: str


class Login:
    """Checks what users present, and opens sessions.

    Its methods raise the refusals of `gateway.errors`, and `DatabaseUnavailableError`.
    """

    def __init__(
        self,
        *,
        users: Users,
        issuer: TokenIssuer,
        passwords: PasswordChecker,
        throttle: LoginThrottle,
    ) -> None:
        self._users = users
        self._issuer = issuer
        self._passwords = passwords
        self._throttle = throttle

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
        """Check a refresh token, the user, and that the password is still the same."""
        try:
            user_id, mark = self._issuer.user_of(refresh_token)
        except TokenRefusedError as error:
            log.info("refresh token refused", reason=str(error))
            raise InvalidRefreshTokenError from None
        user = await self._users.by_id(user_id)
        if user is None or not self._issuer.is_current(mark, user.password_hash or ""):
            log.info("refresh token refused", reason="password changed, or no such user")
            raise InvalidRefreshTokenError
        return await self._session(user)

    async def _session(self, user: User) -> Session:
        if await self._users.has_second_factor(user.id):
            raise SecondFactorRequiredError
        return Session(
            user=user,
            token=self._issuer.access_token(user.id, user.email),
            refresh_token=self._issuer.refresh_token(user.id, user.password_hash or ""),
        )
