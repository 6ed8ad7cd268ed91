"""`/api/realtime/client.js`: the browser client, in the version that fits this gateway.

A page of any origin may import it. It changes with the gateway only, so caches keep it and ask
whether it is still the same: the ETag (RFC 9110, section 8.8.3) is a digest of its bytes.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

CLIENT_PATH: Final = "/api/realtime/client.js"

_CONTENT_TYPES: Final = {
    "client.js": "text/javascript; charset=utf-8",
    "client.d.ts": "text/plain; charset=utf-8",
}


def client_module_router() -> APIRouter:
    """Build `/api/realtime/client.js`, and its types beside it."""
    router = APIRouter(prefix="/api/realtime", tags=["client"])
    for name, content_type in _CONTENT_TYPES.items():
        body = (files("gateway.web") / "assets" / name).read_bytes()
        _add(router, name, body, content_type)
    return router


def _add(router: APIRouter, name: str, body: bytes, content_type: str) -> None:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "public, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }

    @router.get(
        f"/{name}",
        name=name,
        response_class=Response,
        responses={
            200: {"description": "The module", "content": {content_type.partition(";")[0]: {}}},
            304: {"description": "The copy in the cache is still the same"},
        },
    )
    async def serve(request: Request) -> Response:
        """Return the browser client, or 304 for a cache that has it."""
        known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
        if known & {tag, f"W/{tag}", "*"}:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=content_type)
