"""The JSON body of a request: read up to a bound, and described for the OpenAPI document.

Bodies are not left to the framework, which would read one of any length before it is authenticated.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.errors import BodyTooLargeError, BodyTooSlowError, InvalidBodyError

if TYPE_CHECKING:
    from fastapi import Request

MOST_BODY_BYTES: Final = 16 * 1024
BODY_SECONDS: Final = 20.0
"""How long a body may take to come; the server has no bound for it."""

M = TypeVar("M", bound=BaseModel)


async def read_body(
    request: Request, kind: type[M], otherwise: str | None = None, *, most: int = MOST_BODY_BYTES
) -> M:
    """Read a body of at most so many bytes.

    Raises `BodyTooLargeError`, `BodyTooSlowError`, and `InvalidBodyError` with the message
    `otherwise` where it is not as it should be; without one the message names the first wrong
    field, never its value.
    """
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise BodyTooLargeError
    except TimeoutError:
        raise BodyTooSlowError from None
    try:
        return kind.model_validate_json(body, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidBodyError(otherwise or _first_fault(error)) from None


def body_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Describe a body, as `openapi_extra` of a route."""
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe refusals, as `responses` of a route."""
    schema = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
    }
    return {
        status: {
            "description": "Refused; says why",
            "content": {"application/json": {"schema": schema}},
        }
        for status in statuses
    }


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    return f"{where}: {first['msg'].lower()}"
