"""`/api/auth`: logging in with AYB's own table of users, if no AYB runs beside the gateway."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from gateway.client_network import client_address
from gateway.errors import AuthenticationRequiredError, InvalidTokenError
from gateway.web.bearer import bearer_token
from gateway.web.body import body_schema, error_responses, read_body

if TYPE_CHECKING:
    from gateway.auth.login import Login
    from gateway.auth.users import Users
    from gateway.auth.verifier import TokenVerifier


def _stamp(at: datetime) -> str:
    """Write a time as RFC 3339 in UTC, with a fraction only where there is one."""
    text = at.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


Stamp = Annotated[datetime, PlainSerializer(_stamp, return_type=str)]


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class Credentials(_Wire):
    """The body of a login."""

    email: str = Field(min_length=1, max_length=320, pattern=r"^[^\x00]+$")
    password: str = Field(min_length=1)


class Renewal(_Wire):
    """The body of a refresh, or of a log-out."""

    refresh_token: str = Field(min_length=1)


class User(_Wire):
    """A user, without the password's hash."""

    id: str
    email: str
    created_at: Stamp
    updated_at: Stamp


class Session(_Wire):
    """What a login or a refresh answers."""

    token: str
    refresh_token: str
    user: User


def login_router(*, login: Login, users: Users, verifier: TokenVerifier) -> APIRouter:
    """Build `/api/auth/login`, `/api/auth/refresh`, `/api/auth/logout` and `/api/auth/me`."""
    routes = APIRouter(prefix="/api/auth", tags=["login"])

    @routes.post(
        "/login",
        openapi_extra=body_schema(Credentials),
        responses=error_responses(400, 401, 403, 408, 413, 429, 503),
    )
    async def log_in(request: Request, response: Response) -> Session:
        """Log in with e-mail address and password."""
        asked = await read_body(request, Credentials, "email and password are required")
        response.headers["Cache-Control"] = "no-store"
        address = client_address(request.scope)
        return Session.model_validate(await login.log_in(asked.email, asked.password, address))

    @routes.post(
        "/refresh",
        openapi_extra=body_schema(Renewal),
        responses=error_responses(400, 401, 403, 408, 413, 503),
    )
    async def refresh(request: Request, response: Response) -> Session:
        """Exchange a refresh token for new tokens."""
        asked = await read_body(request, Renewal, "refreshToken is required")
        response.headers["Cache-Control"] = "no-store"
        return Session.model_validate(await login.renew(asked.refresh_token))

    @routes.post(
        "/logout",
        status_code=204,
        openapi_extra=body_schema(Renewal),
        responses=error_responses(400, 408, 413, 503),
    )
    async def log_out(request: Request) -> Response:
        """Void a refresh token, and all others of the session that it belongs to."""
        asked = await read_body(request, Renewal, "refreshToken is required")
        await login.log_out(asked.refresh_token)
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    @routes.get("/me", responses=error_responses(401, 503))
    async def me(request: Request, response: Response) -> User:
        """Return the user whose token is in the header `Authorization`."""
        token = bearer_token(request.headers, {})
        if token is None:
            raise AuthenticationRequiredError
        claims = await verifier.verify(token, client_address(request.scope))
        user = await users.by_id(claims.user_id)
        if user is None:
            raise InvalidTokenError
        response.headers["Cache-Control"] = "no-store"
        return User.model_validate(user)

    return routes
