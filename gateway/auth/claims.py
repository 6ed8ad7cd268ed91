"""What a verified token says about a user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway.auth.jws import TokenRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping


_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says; absent claims are empty strings."""

    user_id: str
    email: str = field(repr=False)
    tenant_id: str
    payload: str = field(repr=False)
    """All claims: the JSON object as it was signed, letter for letter."""

    role: str
    """The Postgres role to act as."""

    expires_at: float
    """Unix seconds."""

    def settings(self) -> tuple[str, str, str, str]:
        """The values of ayb.user_id, ayb.user_email, ayb.tenant_id and request.jwt.claims."""
        return self.user_id, self.email, self.tenant_id, self.payload


def seconds_of(claims: Mapping[str, Any], name: str) -> float:
    """Read a required time claim (RFC 7519, NumericDate); raises `TokenRefusedError`."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefusedError(f"{name} is missing or not a number")
    if not 0 <= value <= _LAST_SECOND:
        raise TokenRefusedError(f"{name} is out of range")
    return float(value)


def text_of(claims: Mapping[str, Any], name: str) -> str:
    """Read a claim that becomes a setting; one that Postgres cannot hold as text is refused."""
    value = claims.get(name, "")
    if value is None and name != "sub":
        return ""
    if not isinstance(value, str):
        raise TokenRefusedError(f"{name} is not a string")
    if "\x00" in value or not _is_unicode(value):
        raise TokenRefusedError(f"{name} is not text")
    return value


def _is_unicode(text: str) -> bool:
    """Tell whether a text is free of lone surrogates, which JSON can escape but UTF-8 not write."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_for(audience: str, claim: object) -> bool:
    return audience == claim or (isinstance(claim, list) and audience in claim)
