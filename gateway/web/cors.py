"""Which pages of other origins may read an answer (the Fetch standard, section "CORS protocol")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """The origins whose pages may read answers; `*` is every origin."""

    origins: tuple[str, ...]

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers of an answer to a page of this origin."""
        if "*" in self.origins:
            return {"Access-Control-Allow-Origin": "*"}
        if origin is not None and origin in self.origins:
            return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        return {"Vary": "Origin"}

    def install(self, web: FastAPI) -> None:
        """Let the routes of an application, and all preflights, follow the policy."""
        options: dict[str, Any] = {
            "allow_origins": list(self.origins),
            "allow_methods": ["GET", "POST"],
            "allow_headers": ["Authorization", "Content-Type", "Cache-Control", "Last-Event-ID"],
            "max_age": 600,
        }
        web.add_middleware(CORSMiddleware, **options)
