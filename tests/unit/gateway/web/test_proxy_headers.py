"""The client's address behind a proxy."""

from __future__ import annotations

from typing import Any

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gateway.web.proxy_headers import ProxyHeaders

HEADERS = [(b"x-forwarded-for", b"192.0.2.7, 10.0.0.1"), (b"x-forwarded-proto", b"https")]


class App:
    """An application that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def __call__(self, *arguments: Any) -> None:
        self.calls.append(arguments)


@pytest.mark.parametrize("client", [("10.0.0.1", 1), ("203.0.113.9", 1), None])
@pytest.mark.parametrize("trusted", ["10.0.0.1", "10.0.0.0/8", "*", ""])
@pytest.mark.parametrize("headers", [HEADERS, []])
async def test_it_does_what_uvicorns_middleware_does(
    client: tuple[str, int] | None, trusted: str, headers: list[tuple[bytes, bytes]]
) -> None:
    """A trusted proxy is believed, and no one else, and the application is called once."""
    scopes: list[dict[str, Any]] = []
    for kind in (ProxyHeaders, ProxyHeadersMiddleware):
        scope = {"type": "http", "client": client, "scheme": "http", "headers": headers}
        app = App()
        await kind(app, trusted_hosts=trusted)(scope, "receive", "send")  # type: ignore[arg-type]
        assert app.calls == [(scope, "receive", "send")]
        scopes.append(scope)
    assert scopes[0] == scopes[1]


async def test_nothing_is_called_behind_a_middleware_that_waits(monkeypatch) -> None:
    """If uvicorn's middleware should wait for something one day, requests fail and say why."""
    app = App()
    headers = ProxyHeaders(app, trusted_hosts="*")

    class Waits:
        def __await__(self):
            yield "anything"

    async def wait(*_: object) -> None:
        await Waits()

    monkeypatch.setattr(headers, "_middleware", wait)
    with pytest.raises(RuntimeError, match="waits for something else"):
        headers({}, None, None)
    assert not app.calls
