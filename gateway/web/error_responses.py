"""How refusals look in HTTP: `{"code": 401, "message": "..."}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from gateway.errors import GatewayError, NotConfiguredError, ServiceUnavailableError
from shared.errors import DatabaseUnavailableError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

log = structlog.get_logger(__name__)


def error_body(
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    challenge: str = GatewayError.challenge,
) -> JSONResponse:
    """Build the response of a refusal. A 401 names the scheme (RFC 9110, section 11.6.1)."""
    response = JSONResponse({"code": status, "message": message}, status, dict(headers or {}))
    if status == 401:
        response.headers["WWW-Authenticate"] = challenge
    return response


def error_response(error: GatewayError) -> JSONResponse:
    """Build the response of a refusal of ours."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return error_body(error.status, error.message, headers, challenge=error.challenge)


def install_error_handlers(app: FastAPI) -> None:
    """Give every error of an application, ours or the framework's, the protocol's form."""

    @app.exception_handler(GatewayError)
    async def ours(_request: Request, error: GatewayError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(DatabaseUnavailableError)
    async def no_database(_request: Request, error: DatabaseUnavailableError) -> JSONResponse:
        log.warning("database unavailable", error=str(error))
        return error_response(ServiceUnavailableError())

    @app.exception_handler(SchemaError)
    async def no_outbox(_request: Request, error: SchemaError) -> JSONResponse:
        log.error("not configured", error=str(error))
        return error_response(NotConfiguredError())

    @app.exception_handler(HTTPException)
    async def the_frameworks(_request: Request, error: HTTPException) -> JSONResponse:
        return error_body(error.status_code, str(error.detail).lower(), error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # where and what is wrong; never the value
        where = ".".join(str(part) for part in first["loc"])
        return error_body(422, f"invalid request: {where}: {first['msg'].lower()}")

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, _error: Exception) -> JSONResponse:
        return error_body(500, "internal error")  # the server logs it
