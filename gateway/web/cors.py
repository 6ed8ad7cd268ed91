"""Which pages of other origins may read an answer (the Fetch standard, section "CORS protocol")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from fastapi import FastAPI

EXPOSED: Final = ("Retry-After", "WWW-Authenticate")
"""Headers of answers that pages may read: when to come back, and whether a token has expired."""


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """The origins whose pages may read answers; `*` is every origin.

    A listed origin may also ask with credentials (`withCredentials` of an EventSource), without
    which a browser would discard the answer. The gateway itself reads no cookie.
    """

    origins: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Whether every origin may read answers."""
        return "*" in self.origins

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers of an answer to a page of this origin."""
        exposed = {"Access-Control-Expose-Headers": ", ".join(EXPOSED)}
        if self.is_open:
            return {"Access-Control-Allow-Origin": "*", **exposed}
        if origin is not None and origin in self.origins:
            return {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Credentials": "true",
                "Vary": "Origin",
                **exposed,
            }
        return {"Vary": "Origin"}

    def install(self, web: FastAPI) -> None:
        """Let the routes of an application, and all preflights, follow the policy.

        Libraries send headers of their own (`X-Requested-With`), which mean nothing here.
        """
        web.add_middleware(
            CORSMiddleware,
            allow_origins=list(self.origins),
            allow_credentials=not self.is_open,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=600,
        )
