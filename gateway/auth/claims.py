"""What a verified token says about a user."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway.auth.jws import TokenRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping


_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")


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

    expires_at: float | None
    """Unix seconds; None for an API key that does not expire."""

    further: tuple[str, ...] = field(default=(), repr=False)
    """Values of the deployment's own settings: see `gateway.auth.claim_settings`."""

    key_digest: str | None = field(default=None, repr=False)
    """The SHA-256 of an API key; None for a token."""

    allowed_tables: frozenset[str] = frozenset()
    """The only tables that an API key may read; empty for all."""

    def allows(self, *names: str) -> bool:
        """Whether a table with one of these names may be read, as far as an API key decides it."""
        return not self.allowed_tables or not self.allowed_tables.isdisjoint(names)

    def settings(self) -> tuple[str, ...]:
        """Return ayb.user_id, ayb.user_email, ayb.tenant_id, request.jwt.claims, and the others."""
        return self.user_id, self.email, self.tenant_id, self.payload, *self.further


def anonymous_settings(role: str, further: int = 0) -> tuple[str, ...]:
    """Return the settings of a client without a token, whose only claim is its role.

    PostgREST has it so, too: policies that ask for a claim get NULL instead of an error. `further`
    is the number of the deployment's own settings, all of which are empty.
    """
    claims = json.dumps({"role": role}, ensure_ascii=False, separators=(",", ":"))
    return "", "", "", claims, *[""] * further


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
    return checked_text(value, name)


def checked_text(text: str, name: str) -> str:
    """Return a claim that Postgres can hold as text.

    It has no NUL, and no lone surrogate, which JSON can escape but UTF-8 cannot write. Raises
    `TokenRefusedError`.
    """
    if _NO_TEXT.search(text) is not None:
        raise TokenRefusedError(f"{name} is not text")
    return text


def id_of(claims: Mapping[str, Any], name: str) -> str:
    """Read a claim that names something, as `text_of` does; an integer is its decimal text."""
    value = claims.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(claims, name)


def is_for(audience: str, claim: object) -> bool:
    """Whether an `aud` claim, one audience or a list, has this one (RFC 7519, section 4.1.3)."""
    return audience == claim or (isinstance(claim, list) and audience in claim)
