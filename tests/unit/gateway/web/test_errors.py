from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI

from gateway import errors
from gateway.errors import GatewayError
from gateway.web.error_responses import error_response, install_error_handlers
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (errors.AuthenticationRequiredError(), 401, "authentication required"),
        (errors.InvalidTokenError(), 401, "invalid or expired token"),
        (errors.ExpiredTokenError(), 401, "invalid or expired token"),
        (errors.TablesRequiredError(), 400, "tables parameter is required"),
        (errors.NoTablesError(), 400, "at least one valid table is required"),
        (errors.UnknownTableRequestError('a "b"'), 400, 'unknown table: a "b"'),
        (errors.PermissionDeniedError("posts"), 403, "permission denied for table: posts"),
        (errors.RequestTooLongError(), 414, "request too long"),
        (errors.ConnectionLimitError(), 429, "connection limit exceeded"),
        (errors.ShuttingDownError(), 503, "server is shutting down"),
        (errors.ServiceUnavailableError(), 503, "database unavailable"),
        (errors.KeysUnavailableError(), 503, "token keys unavailable"),
        (errors.InvalidCredentialsError(), 401, "invalid email or password"),
        (errors.InvalidRefreshTokenError(), 401, "invalid or expired refresh token"),
        (errors.SecondFactorRequiredError(), 403, "second factor required"),
        (errors.InvalidBodyError("x is required"), 400, "x is required"),
        (errors.BodyTooLargeError(), 413, "request body too large"),
        (errors.TooManyTriesError(), 429, "too many tries"),
    ],
)
def test_refusals_have_the_protocols_words(error: GatewayError, status: int, message: str) -> None:
    """Each refusal has its status and message; what passes has Retry-After, a 401 its scheme."""
    response = error_response(error)
    assert response.status_code == error.status == status
    assert httpx.Response(status, content=bytes(response.body)).json() == {
        "code": status,
        "message": message,
    }
    assert response.headers["content-type"] == "application/json"
    assert ("retry-after" in response.headers) == (status in (429, 503))
    challenge = response.headers.get("www-authenticate")
    assert challenge == (error.challenge if status == 401 else None)


def test_a_client_learns_that_its_token_has_expired() -> None:
    """The challenge of a 401 says so (RFC 6750), and nothing more of a token that is not valid."""
    for error, challenge in (
        (errors.AuthenticationRequiredError(), "Bearer"),
        (errors.InvalidCredentialsError(), "Bearer"),
        (errors.InvalidTokenError(), 'Bearer error="invalid_token"'),
        (
            errors.ExpiredTokenError(),
            'Bearer error="invalid_token", error_description="expired"',
        ),
    ):
        assert error_response(error).headers["www-authenticate"] == challenge


def test_who_is_refused_is_told_to_come_back_at_different_times() -> None:
    """Retry-After is spread, so that a full server is not hammered; a known wait is exact."""
    first, last = errors.RETRY_SECONDS
    told = {errors.ConnectionLimitError().retry_after for _ in range(500)}
    assert told == set(range(first, last + 1))
    assert errors.TooManyTriesError(retry_seconds=77).retry_after == 77


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/ours")
    async def ours() -> None:
        raise errors.TooManyTriesError(retry_seconds=5)

    @app.get("/database")
    async def database() -> None:
        raise DatabaseUnavailableError("database unavailable: connection to 10.1.2.3 refused")

    @app.get("/number")
    async def number(value: int) -> int:
        return value

    @app.get("/fault")
    async def fault() -> None:
        raise ValueError("a secret of the inside")

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/ours", 429, "too many tries"),
        ("GET", "/database", 503, "database unavailable"),
        ("GET", "/nothing", 404, "not found"),
        ("POST", "/ours", 405, "method not allowed"),
        ("GET", "/number?value=secret", 422, "invalid request: query.value: input should be"),
        ("GET", "/fault", 500, "internal error"),
    ],
)
async def test_every_error_has_the_same_form(
    client: httpx.AsyncClient, method: str, path: str, status: int, message: str
) -> None:
    """Errors of the framework and faults look like our own, and tell nothing of the inside."""
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"code", "message"}
    assert body["code"] == status
    assert body["message"].startswith(message)
    assert "secret" not in response.text
    assert "10.1.2.3" not in response.text
    if status == 405:
        assert response.headers["allow"] == "GET"
