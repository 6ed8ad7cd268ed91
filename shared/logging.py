"""Structured logs: one event per line, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

_SECRETS = (
    (re.compile(r"\beyJ[\w-]*\.[\w-]+\.[\w-]*"), "[token]"),
    (re.compile(r"\bayb_[0-9a-f]{16,}"), "[API key]"),
    (re.compile(r"(?i)([?&](?:token|access_token)=)[^&\s\"']+"), r"\1[token]"),
    (re.compile(r"(?i)([?&](?:ssl)?password=)[^&\s\"']+"), r"\1[password]"),
    (
        re.compile(r"(?i)([?&](?:[\w-]*(?:key|secret|signature|credential)|sig|code)=)[^&\s\"']+"),
        r"\1[secret]",
    ),
    # Up to the last @: a password that was not percent-encoded may contain anything.
    (re.compile(r"(\w+://[^:/@\s]*):\S+@"), r"\1:[password]@"),
)


def redact(text: str) -> str:
    """Remove tokens, API keys, and passwords in URLs, from a text."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _redact_event(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event.pop("color_message", None)  # uvicorn's: the event again, with escape codes
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
        elif isinstance(value, BaseException):
            event[key] = redact(f"{type(value).__name__}: {value}")
    return event


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a record of asyncio's says anything.

    asyncpg cancels a statement over a connection of its own. Where the statement's connection is
    ended before that one is answered, as when a relay stops, nobody awaits the answer any more.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (
        isinstance(error, ConnectionError) and str(error) == "unexpected connection_lost() call"
    )


def configure_logging(*, level: str, form: str) -> None:
    """Send structlog's and the standard library's logs to standard error as `json` or `console`."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    common: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common[:3], structlog.stdlib.ExtraAdder(), *common[3:]],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").addFilter(_is_worth_a_line)
    for chatty in ("httpx", "httpcore", "asyncio", "redis", "push_response", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
