"""`/console`: a page that shows what a client receives. Off unless `AYB_CONSOLE_ENABLED`.

The page holds no secret and has no rights of its own: it makes the requests that any client may
make, with the token of the user who logs in there. Two endpoints serve the page alone:
`/console/options` lists the features of this gateway, and `/console/batches` returns when batches
were recorded.

All addresses in the page are relative, so that it works behind a path prefix. Its content security
policy allows what the gateway itself serves, and nothing inline.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from gateway.client_network import client_address
from gateway.errors import InvalidBodyError
from gateway.web.body import error_responses
from shared.postgres import unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    import asyncpg

    from gateway.web.authentication import Authentication

_SQL: Final = queries("gateway.web")

_FILES: Final = {
    "console.css": "text/css; charset=utf-8",
    **dict.fromkeys(
        (
            "ages.js", "console.js", "demo.js", "events.js", "explain.js", "graph.js", "pane.js",
        ),
        "text/javascript; charset=utf-8",
    ),
}  # fmt: skip

_MOST_BATCHES: Final = 500
_BATCHES: Final = re.compile(r"[0-9]{1,18}(,[0-9]{1,18})*")


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """What the page offers; `demo_url` is where the demo of `make dev` writes rows."""

    has_auth: bool
    has_login: bool
    has_explain: bool
    allows_anonymous: bool
    demo_url: str | None = None


def console_router(
    options: ConsoleOptions,
    *,
    pool: asyncpg.Pool,
    authentication: Authentication,
) -> APIRouter:
    """Build `/console`."""
    routes = APIRouter(tags=["console"])
    folder = files("gateway.web") / "assets" / "console"
    pages = {name: (folder / name).read_bytes() for name in ("index.html", *_FILES)}
    headers = _headers(options.demo_url)
    asking = asyncio.Lock()  # one question at a time: live streams need the pool
    offered = {
        "auth": options.has_auth,
        "anonymous": options.allows_anonymous,
        "login": options.has_login,
        "explain": options.has_explain,
        "demo": options.demo_url,
    }

    @routes.get("/console", response_class=Response, include_in_schema=False)
    async def page() -> Response:
        return Response(pages["index.html"], headers=headers, media_type="text/html")

    @routes.get("/console/", include_in_schema=False)
    async def moved() -> RedirectResponse:
        return RedirectResponse("../console", status_code=308)

    @routes.get("/console/options", include_in_schema=False)
    async def show_options() -> JSONResponse:
        return JSONResponse(offered, headers={"Cache-Control": "no-store"})

    @routes.get("/console/batches", responses=error_responses(400, 401, 429, 503))
    async def batches(
        request: Request, ids: Annotated[str, Query(max_length=_MOST_BATCHES * 20)]
    ) -> JSONResponse:
        """Return when batches were recorded, and what time it is, in milliseconds."""
        address = client_address(request.scope)
        await authentication.identify(request.headers, {}, address)
        if not _BATCHES.fullmatch(ids):
            raise InvalidBodyError("ids: numbers of batches, separated by commas")
        numbers = list(map(int, ids.split(",")[:_MOST_BATCHES]))
        async with asking:
            with unavailable_as_ours():
                row = await pool.fetchrow(_SQL["recorded"], numbers)
        answer = {"now": row["now"], "batches": dict(zip(row["ids"], row["at"], strict=True))}
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    # After the routes above, which it would take for files.
    @routes.get("/console/{name}", response_class=Response, include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in _FILES:
            return JSONResponse({"code": 404, "message": "not found"}, status_code=404)
        return Response(pages[name], headers=headers, media_type=_FILES[name])

    return routes


def _headers(demo_url: str | None) -> dict[str, str]:
    connect = "'self'" if demo_url is None else f"'self' {demo_url}"
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "data:",
        "connect-src": connect,
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
