"""The stream in the OpenAPI document, since it is served past the framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fastapi import FastAPI

_ERROR: Final = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
}


def describe_stream(web: FastAPI, path: str) -> None:
    """Add the stream to the document that the application serves."""
    document: dict[str, Any] = web.openapi()
    document["paths"][path] = {
        "get": {
            "tags": ["stream"],
            "summary": "Stream the changes of tables as Server-Sent Events",
            "parameters": [
                _parameter("tables", required=True, text="comma-separated names"),
                _parameter("token", text="a JWT, for who cannot send the header Authorization"),
                _parameter("lastEventId", text="continue after this position"),
                _parameter("leave", text="true: tell updates that take a row out of sight"),
                _parameter("Authorization", place="header", text="Bearer JWT"),
                _parameter("Last-Event-ID", place="header", text="continue after this position"),
            ],
            "responses": {
                "200": {
                    "description": "The stream",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                **{
                    status: {
                        "description": what,
                        "content": {"application/json": {"schema": _ERROR}},
                    }
                    for status, what in (
                        ("400", "No or unknown tables"),
                        ("401", "No or no valid token"),
                        ("403", "The role may not read a table"),
                        ("414", "The request is too long"),
                        ("429", "Too many streams"),
                        ("503", "The gateway stops, or the database is unavailable"),
                    )
                },
            },
        }
    }


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
