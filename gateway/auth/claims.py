"""What a verified token says about a user."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway.auth.jws import TokenRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping


ABSENT: Final = object()
"""What `find_claim` returns for a claim that is not there."""

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
        """Return ayb.user_id, ayb.user_email, ayb.tenant_id and request.jwt.claims."""
        return self.user_id, self.email, self.tenant_id, self.payload


def anonymous_settings(role: str) -> tuple[str, str, str, str]:
    """Return the settings of a client without a token, whose only claim is its role.

    PostgREST has it so, too: policies that ask for a claim get NULL instead of an error.
    """
    return "", "", "", json.dumps({"role": role}, ensure_ascii=False, separators=(",", ":"))


def seconds_of(claims: Mapping[str, Any], name: str) -> float:
    """Read a required time claim (RFC 7519, NumericDate); raises `TokenRefusedError`."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefusedError(f"{name} is missing or not a number")
    if not 0 <= value <= _LAST_SECOND:
        raise TokenRefusedError(f"{name} is out of range")
    return float(value)


def text_of(claims: Mapping[str, Any], name: str) -> str:
    """Read a claim that becomes a setting, empty if absent.

    Raises `TokenRefusedError` for one that is no string, or that Postgres cannot hold as text.
    """
    value = claims.get(name, "")
    if value is None and name != "sub":
        return ""
    if not isinstance(value, str):
        raise TokenRefusedError(f"{name} is not a string")
    if "\x00" in value or not _is_unicode(value):
        raise TokenRefusedError(f"{name} is not text")
    return value


def id_of(claims: Mapping[str, Any], name: str) -> str:
    """Read a claim that names something, as `text_of` does; an integer is its decimal text."""
    value = claims.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(claims, name)


def find_claim(claims: Mapping[str, Any], path: str) -> object:
    """Return the claim that `path` names, or `ABSENT`.

    A claim whose own name is the path comes first, since names may have dots (`https://x/role`);
    otherwise each dot leads into an object (`app_metadata.role`).
    """
    if path in claims:
        return claims[path]
    value: object = claims
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return ABSENT
        value = value[name]
    return value


def _is_unicode(text: str) -> bool:
    """Whether a text is free of lone surrogates, which JSON can escape but UTF-8 cannot write."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_for(audience: str, claim: object) -> bool:
    """Whether an `aud` claim, one audience or a list, has this one (RFC 7519, section 4.1.3)."""
    return audience == claim or (isinstance(claim, list) and audience in claim)
