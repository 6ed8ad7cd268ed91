"""The address that a trusted proxy names (`X-Forwarded-For`) instead of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


class ProxyHeaders:
    """uvicorn's middleware without its coroutine, which would last as long as a stream does.

    It reads the head of a request and then awaits the application. So it is given one that does
    nothing, and runs to its end in one step.
    """

    def __init__(self, app: App, *, trusted_hosts: str) -> None:
        self._app = app
        self._middleware = ProxyHeadersMiddleware(_nothing, trusted_hosts=trusted_hosts)

    def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> Awaitable[None]:  # noqa: ANN401
        """Write the client's address and scheme into the scope, and call the application."""
        reading = self._middleware(scope, receive, send)  # type: ignore[arg-type]
        try:
            reading.send(None)
        except StopIteration:
            return self._app(scope, receive, send)
        raise RuntimeError("uvicorn's middleware waits for something else than the application")


async def _nothing(*_: object) -> None:
    pass
