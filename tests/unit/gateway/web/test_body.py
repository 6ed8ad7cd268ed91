"""gateway.web.body: a body that does not come."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request

from gateway.errors import BodyTooSlowError
from gateway.web import body
from gateway.web.login import Renewal


async def test_a_body_that_does_not_end_is_not_waited_for(monkeypatch):
    """A client that announces a body and sends only its beginning is refused after a while."""
    monkeypatch.setattr(body, "BODY_SECONDS", 0.05)
    parts = [b'{"refresh', b'Token": ']

    async def receive():
        if not parts:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": parts.pop(0), "more_body": True}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(BodyTooSlowError):
        await body.read_body(request, Renewal)
