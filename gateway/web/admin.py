"""Explains to administrators, over HTTP, why a client gets an event or not; needs a secret."""

from __future__ import annotations

import hmac
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from gateway.diagnostics.explain import ExplainError, explain
from gateway.errors import (
    AuthenticationRequiredError,
    InvalidBodyError,
    InvalidTokenError,
)
from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.web.body import body_schema, error_responses, read_body

if TYPE_CHECKING:
    import asyncpg

    from gateway.auth.verifier import TokenVerifier

_MOST_TOKEN_CHARACTERS: Final = 16 * 1024
_MOST_BODY_BYTES: Final = 128 * 1024


class Asked(BaseModel):
    """A row, by the values of its primary key, and the token of the client in question."""

    table: str = Field(max_length=200)
    key: list[Annotated[str, Field(max_length=1_000)]] = Field(max_length=32)
    token: str = Field(max_length=_MOST_TOKEN_CHARACTERS)
    changes: int = Field(default=5, ge=1, le=50)


def admin_router(
    *,
    pool: asyncpg.Pool,
    verifier: TokenVerifier,
    secret: str,
    deletes: Literal["all", "visible"],
    trusted_functions: frozenset[str] = frozenset(),
    setting_names: tuple[str, ...] = KNOWN_SETTINGS,
) -> APIRouter:
    """Build `POST /api/admin/explain`, for requests that carry the secret as a bearer token."""
    routes = APIRouter(prefix="/api/admin", tags=["admin"])

    @routes.post(
        "/explain",
        openapi_extra=body_schema(Asked),
        responses=error_responses(400, 401, 408, 413, 503),
    )
    async def explain_row(request: Request) -> dict[str, Any]:
        """Explain what decides whether a client gets the events of a row."""
        authorization = request.headers.get("authorization")
        if authorization is None:
            raise AuthenticationRequiredError
        if not hmac.compare_digest(authorization.encode(), f"Bearer {secret}".encode()):
            raise InvalidTokenError
        asked = await read_body(request, Asked, most=_MOST_BODY_BYTES)
        claims = await verifier.verify(asked.token)
        try:
            explanation = await explain(
                pool,
                table=asked.table,
                key=asked.key,
                claims=claims,
                most_changes=asked.changes,
                deletes=deletes,
                trusted_functions=trusted_functions,
                setting_names=setting_names,
            )
        except ExplainError as error:
            raise InvalidBodyError(str(error)) from None
        return {**asdict(explanation), "readable": sorted(explanation.readable)}

    return routes
