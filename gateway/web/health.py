"""`/healthz` and `/readyz`, on the public and on the management port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.status import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

if TYPE_CHECKING:
    from gateway.web.readiness import Readiness


def health_router(readiness: Readiness) -> APIRouter:
    """Build `/healthz` and `/readyz`."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Report that the process is alive."""
        return {"status": "ok"}

    @router.get(
        "/readyz",
        responses={HTTP_503_SERVICE_UNAVAILABLE: {"description": "Not ready; says why"}},
    )
    async def readyz() -> JSONResponse:
        """Report whether this gateway may take traffic, and if not, why."""
        report = await readiness.report()
        return JSONResponse(
            {"status": "ready" if report.is_ready else "not ready", "parts": dict(report.parts)},
            HTTP_200_OK if report.is_ready else HTTP_503_SERVICE_UNAVAILABLE,
        )

    return router
