"""`/healthz` and `/readyz`, on the public and on the management port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from starlette.status import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

if TYPE_CHECKING:
    from gateway.web.readiness import Readiness


def health_router(region: str, readiness: Readiness) -> APIRouter:
    """Build `/healthz` and `/readyz` of a gateway in `region`, which may be empty."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Report that the process is alive."""
        return {"status": "ok"}

    @router.get(
        "/readyz",
        responses={HTTP_503_SERVICE_UNAVAILABLE: {"description": "Not ready; says why"}},
    )
    async def readyz(
        max_lag: Annotated[float | None, Query(gt=0, include_in_schema=False)] = None,
    ) -> JSONResponse:
        """Report whether this gateway may take traffic, and if not, why.

        For a balancer that chooses between regions, a gateway whose read database is staler than
        `max_lag` seconds is not ready either.
        """
        report = await readiness.report()
        is_ready = report.is_ready and (max_lag is None or report.staleness_seconds <= max_lag)
        return JSONResponse(
            {
                "status": "ready" if is_ready else "not ready",
                **({"region": region} if region else {}),
                "parts": dict(report.parts),
            },
            HTTP_200_OK if is_ready else HTTP_503_SERVICE_UNAVAILABLE,
        )

    return router
