"""The refusals that a client may get, each with its status and its message.

The docstring of a class is the message on the wire, letter for letter as in docs/protocol.md.
"""
# ruff: noqa: D400, D415 (wire texts, not sentences)

from __future__ import annotations

import secrets
from typing import ClassVar, Final

import structlog

from shared.errors import AybError

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = (2, 10)
"""Refused clients get a random time in this range, so that they do not all come back at once."""


class GatewayError(AybError):
    """request refused"""

    status: ClassVar[int] = 400
    is_passing: ClassVar[bool] = False
    """Whether the same request may succeed later; sent as `Retry-After`."""

    challenge: ClassVar[str] = "Bearer"
    """What `WWW-Authenticate` says with a 401 (RFC 6750, section 3)."""

    def __init__(self, message: str | None = None, *, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message = str(self)
        self.retry_after = retry_seconds
        if retry_seconds is None and self.is_passing:
            first, last = RETRY_SECONDS
            self.retry_after = first + secrets.randbelow(last - first + 1)


class AuthenticationRequiredError(GatewayError):
    """authentication required"""

    status = 401


class InvalidTokenError(GatewayError):
    """invalid or expired token"""

    status = 401
    challenge = 'Bearer error="invalid_token"'


class ExpiredTokenError(InvalidTokenError):
    """invalid or expired token"""

    challenge = 'Bearer error="invalid_token", error_description="expired"'


class InvalidRefreshTokenError(GatewayError):
    """invalid or expired refresh token"""

    status = 401


class InvalidCredentialsError(GatewayError):
    """invalid email or password"""

    status = 401


class SecondFactorRequiredError(GatewayError):
    """second factor required"""

    status = 403


class InvalidBodyError(GatewayError):
    """invalid request body"""


class BodyTooSlowError(GatewayError):
    """request body timeout"""

    status = 408


class BodyTooLargeError(GatewayError):
    """request body too large"""

    status = 413


class TooManyTriesError(GatewayError):
    """too many tries"""

    status = 429
    is_passing = True


class TablesRequiredError(GatewayError):
    """tables parameter is required"""


class NoTablesError(GatewayError):
    """at least one valid table is required"""


class UnknownTableRequestError(GatewayError):
    """unknown table"""

    def __init__(self, table: str) -> None:
        super().__init__(f"unknown table: {table}")


class PermissionDeniedError(GatewayError):
    """permission denied for table"""

    status = 403

    def __init__(self, table: str) -> None:
        super().__init__(f"permission denied for table: {table}")


class RequestTooLongError(GatewayError):
    """request too long"""

    status = 414


class ConnectionLimitError(GatewayError):
    """connection limit exceeded"""

    status = 429
    is_passing = True


class ServiceUnavailableError(GatewayError):
    """database unavailable"""

    status = 503
    is_passing = True


class NotConfiguredError(ServiceUnavailableError):
    """not configured"""


class KeysUnavailableError(ServiceUnavailableError):
    """token keys unavailable"""


class OAuthElsewhereError(GatewayError):
    """oauth streams are served by AYB itself: the gateway knows no AYB_SERVER_URL"""


class OAuthUnavailableError(ServiceUnavailableError):
    """AYB's server unavailable"""


class SessionsUnavailableError(ServiceUnavailableError):
    """sessions unavailable"""


class PositionAheadError(GatewayError):
    """position not reached yet"""

    status = 503
    is_passing = True


class InternalError(GatewayError):
    """internal error"""

    status = 500
    is_passing = True


class ShuttingDownError(GatewayError):
    """server is shutting down"""

    status = 503
    is_passing = True
