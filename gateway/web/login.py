"""Logging in with AYB's own table of users, for where no AYB runs beside the gateway."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from gateway.auth.issuer import TokenIssuer
from gateway.auth.jws import TokenRefusedError
from gateway.auth.passwords import PasswordChecker
from gateway.auth.throttle import LoginAttempts
from gateway.auth.users import Users
from gateway.errors import (
    AuthenticationRequiredError,
    InvalidCredentialsError,
    InvalidRefreshTokenError,
    InvalidTokenError,
    SecondFactorRequiredError,
)
from gateway.web.bearer import bearer_token
from gateway.web.body import body_schema, error_responses, read_body

if TYPE_CHECKING:
    import asyncpg

    from gateway.auth.verifier import TokenVerifier
    from gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)


def _stamp(at: datetime) -> str:
    """Write a time as RFC 3339 in UTC, with a fraction only where there is one."""
    text = at.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


Stamp = Annotated[datetime, PlainSerializer(_stamp, return_type=str)]


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Credentials(_Wire):
    """What is needed to log in."""

    email: str = Field(min_length=1, max_length=320, pattern=r"^[^\x00]+$")
    password: str = Field(min_length=1)


class Renewal(_Wire):
    """What is needed to go on."""

    refresh_token: str = Field(min_length=1)


class User(_Wire):
    """A user, without the password's hash."""

    id: str
    email: str
    created_at: Stamp
    updated_at: Stamp


class Session(_Wire):
    """What a login gives."""

    token: str
    refresh_token: str
    user: User


class Login:
    """Turns passwords and refresh tokens into sessions."""

    def __init__(
        self,
        *,
        users: Users,
        issuer: TokenIssuer,
        passwords: PasswordChecker,
        attempts: LoginAttempts,
    ) -> None:
        self._users = users
        self._issuer = issuer
        self._passwords = passwords
        self._attempts = attempts

    async def log_in(self, credentials: Credentials, address: str) -> Session:
        """Check a password. `address` is the client's."""
        email = credentials.email.strip().lower()
        with self._attempts.counting_failures(address, email):
            user = await self._users.by_email(email)
            stored = None if user is None else user["password_hash"]
            is_right = await self._passwords.is_right(credentials.password, stored)
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
        if user is None or not self._issuer.is_current(mark, user["password_hash"] or ""):
            log.info("refresh token refused", reason="another password, or no user any more")
            raise InvalidRefreshTokenError
        return await self._session(user)

    async def _session(self, user: asyncpg.Record) -> Session:
        if await self._users.has_second_factor(user["id"]):
            raise SecondFactorRequiredError
        return Session(
            token=self._issuer.access_token(user["id"], user["email"]),
            refresh_token=self._issuer.refresh_token(user["id"], user["password_hash"]),
            user=_user(user),
        )


def _user(row: asyncpg.Record) -> User:
    return User(
        id=row["id"],
        email=row["email"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def router(
    *,
    settings: GatewaySettings,
    pool: asyncpg.Pool,
    verifier: TokenVerifier,
    passwords: PasswordChecker | None = None,
    attempts: LoginAttempts | None = None,
) -> APIRouter:
    """Build `/api/auth/login`, `/api/auth/refresh` and `/api/auth/me`."""
    secret = settings.auth_jwt_secret
    assert secret is not None  # noqa: S101 (checked by the settings)
    users = Users(pool)
    login = Login(
        users=users,
        issuer=TokenIssuer(
            secret.get_secret_value(),
            issuer=settings.auth_jwt_issuer,
            audience=settings.auth_jwt_audience,
        ),
        passwords=PasswordChecker() if passwords is None else passwords,
        attempts=LoginAttempts() if attempts is None else attempts,
    )
    routes = APIRouter(prefix="/api/auth", tags=["login"])

    @routes.post(
        "/login",
        openapi_extra=body_schema(Credentials),
        responses=error_responses(400, 401, 403, 408, 413, 429, 503),
    )
    async def log_in(request: Request, response: Response) -> Session:
        """Log in with e-mail address and password."""
        credentials = await read_body(request, Credentials, "email and password are required")
        response.headers["Cache-Control"] = "no-store"
        return await login.log_in(credentials, request.client.host if request.client else "")

    @routes.post(
        "/refresh",
        openapi_extra=body_schema(Renewal),
        responses=error_responses(400, 401, 403, 408, 413, 503),
    )
    async def refresh(request: Request, response: Response) -> Session:
        """Get new tokens for a refresh token."""
        renewal = await read_body(request, Renewal, "refreshToken is required")
        response.headers["Cache-Control"] = "no-store"
        return await login.renew(renewal.refresh_token)

    @routes.get("/me", responses=error_responses(401, 503))
    async def me(request: Request, response: Response) -> User:
        """Tell who the token in the header `Authorization` belongs to."""
        token = bearer_token(request.headers, {})
        if token is None:
            raise AuthenticationRequiredError
        claims = await verifier.verify(token)
        user = await users.by_id(claims.user_id)
        if user is None:
            raise InvalidTokenError
        response.headers["Cache-Control"] = "no-store"
        return _user(user)

    return routes
