from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import ssl
import sys

import pytest
import structlog
from asyncpg.connect_utils import TLSUpgradeProto

from shared.logging import configure_logging, redact

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Bearer {TOKEN} refused", "Bearer [token] refused"),
        (f"GET /api/realtime?tables=a&token={TOKEN}", "GET /api/realtime?tables=a&token=[token]"),
        (f"key ayb_{'0f' * 24} seen", "key [API key] seen"),
        ("ayb_realtime and ayb_0123456789", "ayb_realtime and ayb_0123456789"),
        ("GET /?token=short&x=1", "GET /?token=[token]&x=1"),
        ("postgresql://u:s3cret@h/db", "postgresql://u:[password]@h/db"),
        ("postgresql://u:s3@cret@h/db", "postgresql://u:[password]@h/db"),
        ("postgresql://u@h/db?password=s3cret&a=b", "postgresql://u@h/db?password=[password]&a=b"),
        ("postgresql://h/db?sslpassword=s3cret", "postgresql://h/db?sslpassword=[password]"),
        ("redis://:s3cret@h:1/0", "redis://:[password]@h:1/0"),
        ("postgresql://u:s3/cr?et@h:1/db x@y", "postgresql://u:[password]@h:1/db x@y"),
        ("redis://:a/b@h:1/0, redis://h2:6379/0", "redis://:[password]@h:1/0, redis://h2:6379/0"),
        ("https://h/jwks?a=1&api-key=s3cret&b=2", "https://h/jwks?a=1&api-key=[secret]&b=2"),
        ("https://h/jwks?key=s3cret: no answer", "https://h/jwks?key=[secret] no answer"),
        ("https://h/jwks?X-Amz-Signature=s3cret", "https://h/jwks?X-Amz-Signature=[secret]"),
        ("https://h/jwks?kid=1&keys=2", "https://h/jwks?kid=1&keys=2"),
        ("nothing to hide: a@b", "nothing to hide: a@b"),
    ],
)
def test_secrets_are_taken_out_of_texts(text: str, shown: str) -> None:
    """Tokens and the passwords of URLs never stand in a log line."""
    assert redact(text) == shown


def test_every_log_line_is_one_json_object_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Our own logs, those of libraries and exceptions all go through the same hands."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    configure_logging(level="info", form="json")
    structlog.get_logger("test").warning("refused", token=TOKEN, error=ValueError(TOKEN))
    logging.getLogger("library").warning("saw %s", TOKEN)
    try:
        raise RuntimeError(f"redis://:s3cret@h {TOKEN}")
    except RuntimeError:
        logging.getLogger("library").exception("broken")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["refused", "saw [token]", "broken"]
    assert TOKEN not in out.getvalue()
    assert "s3cret" not in out.getvalue()


def test_an_abandoned_request_to_cancel_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncpg's connection that cancels a statement ends unanswered when a relay stops; other
    errors that nobody retrieved are logged.
    """
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    configure_logging(level="info", form="json")
    loop = asyncio.new_event_loop()
    upgrade = TLSUpgradeProto(loop, "host", 1, ssl.create_default_context(), False)
    upgrade.connection_lost(None)
    other = loop.create_future()
    other.set_exception(ConnectionError("another"))
    del upgrade, other
    gc.collect()
    loop.close()
    (line,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert "ConnectionError: another" in line["exception"]
