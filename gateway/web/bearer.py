"""Where a request carries its token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gateway.errors import InvalidTokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers

log = structlog.get_logger(__name__)


def bearer_token(headers: Headers, query: Mapping[str, str]) -> str | None:
    """Find a request's token: in the header `Authorization`, which wins, or the parameter `token`.

    Raises `InvalidTokenError` if the header is present, but is not one `Bearer` with a token.
    """
    given = headers.getlist("authorization")
    if not given:
        return query.get("token") or None
    scheme, _, token = given[0].strip().partition(" ")
    token = token.strip()
    if len(given) > 1 or scheme.lower() != "bearer" or not token or " " in token:
        log.info("token refused", reason="the header is not exactly one bearer token")
        raise InvalidTokenError
    return token
