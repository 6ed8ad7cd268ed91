"""The stream in the OpenAPI document, since it is served past the framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse

if TYPE_CHECKING:
    from fastapi import FastAPI

_ERROR: Final = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
}


def document_router(document: dict[str, Any]) -> APIRouter:
    """Build `/openapi.json`."""
    router = APIRouter()

    @router.get("/openapi.json", include_in_schema=False)
    async def show_document() -> JSONResponse:
        return JSONResponse(document)

    return router


def describe(web: FastAPI, path: str) -> dict[str, Any]:
    """Return the document of an application's routes and of the stream at `path`."""
    document: dict[str, Any] = web.openapi()
    document["paths"][path] = {
        "get": {
            "tags": ["stream"],
            "summary": "Stream the changes of tables as Server-Sent Events",
            "parameters": [
                _parameter("tables", required=True, text="comma-separated names"),
                _parameter("token", text="a JWT, if no header can be sent"),
                _parameter("lastEventId", text="continue after this position"),
                _parameter("oauth", text="true: AYB's own stream for a sign-in, passed on"),
                _parameter("leave", text="true: a delete for a row that leaves the client's sight"),
                _parameter("Authorization", place="header", text="Bearer JWT"),
                _parameter("Last-Event-ID", place="header", text="continue after this position"),
            ],
            "responses": {
                "200": {
                    "description": "The stream; or, instead of 429 and 503 where Accept names"
                    " text/event-stream, one that says when to come back, and ends",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                **{
                    status: {
                        "description": what,
                        "content": {"application/json": {"schema": _ERROR}},
                    }
                    for status, what in (
                        ("400", "No or unknown tables"),
                        ("401", "No token, or none that is valid"),
                        ("403", "The role may not read a table"),
                        ("414", "The request is too long"),
                        ("429", "Too many streams"),
                        ("503", "The gateway stops, or the database is unavailable"),
                    )
                },
            },
        }
    }
    return document


def _parameter(
    name: str, *, text: str, place: str = "query", required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": text,
        "schema": {"type": "string"},
    }
