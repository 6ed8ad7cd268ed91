"""Which pages may read answers."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from gateway.web.cors import CorsPolicy

ORIGIN = "https://app.example.com"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed", "credentials"),
    [
        (("*",), ORIGIN, "*", None),
        (("*",), None, "*", None),
        ((ORIGIN, "*"), ORIGIN, "*", None),
        ((ORIGIN,), ORIGIN, ORIGIN, "true"),
        ((ORIGIN,), "https://evil.example.com", None, None),
        ((ORIGIN,), None, None, None),
    ],
)
async def test_streams_and_routes_agree(
    origins: tuple[str, ...], origin: str | None, allowed: str | None, credentials: str | None
) -> None:
    """The stream, which is served past the framework, has the headers that routes have."""
    policy = CorsPolicy(origins)
    headers = policy.headers(origin)
    assert headers.get("Access-Control-Allow-Origin") == allowed
    assert headers.get("Access-Control-Allow-Credentials") == credentials
    assert ("Vary" in headers) is not policy.is_open
    web = FastAPI()
    policy.install(web)

    @web.get("/")
    async def root() -> str:
        return ""

    transport = httpx.ASGITransport(app=web)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/", headers={} if origin is None else {"Origin": origin})
        if origin is not None:
            assert answer.headers.get("access-control-allow-origin") == allowed
        preflight = await client.options(
            "/api/realtime",
            headers={
                "Origin": origin or ORIGIN,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization,last-event-id,x-requested-with",
            },
        )
    assert (preflight.status_code == 200) is (origin != "https://evil.example.com")
    if preflight.status_code == 200:
        assert "authorization" in preflight.headers["access-control-allow-headers"]
    if allowed is not None and origin is not None:
        exposed = "Retry-After, WWW-Authenticate"
        assert headers["Access-Control-Expose-Headers"] == exposed
        assert answer.headers["access-control-expose-headers"] == exposed
