"""Signed tokens in their compact form (RFC 7515), read strictly.

Everything here is done before a signature is trusted, or to what a signer may have written
carelessly: a text that two parsers could read differently (a repeated key, `NaN`, a lone
surrogate, more nesting than some parsers take) is no token.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from shared.errors import AybError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_CHARACTERS: Final = 16 * 1024
MOST_LEVELS: Final = 100
"""How deeply objects and arrays may be nested. Parsers give up at depths of their own, Python's by
its version: Postgres, which gets the claims too, has another."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class TokenRefusedError(AybError):
    """Why a token is refused: for the log, never for the client. Holds nothing of the token."""


class TokenExpiredError(TokenRefusedError):
    """A token was valid until its `exp`; nothing else is wrong with it."""


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token taken apart; nothing of it is verified yet."""

    algorithm: str
    kid: str | None
    signing_input: bytes
    payload: bytes
    signature: bytes


def parse_token(token: str) -> SignedToken:
    """Take a token apart.

    Of the header only `alg` and `kid` count. Keys that it brings along or points to (`jwk`, `jku`,
    `x5c`, `x5u`) are ignored, and extensions that must be understood (`crit`) are refused, as none
    is. Raises `TokenRefusedError`.
    """
    if len(token) > MOST_CHARACTERS:
        raise TokenRefusedError("too long")
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise TokenRefusedError("not three parts of base64url")
    header = parse_object(_decode(parts[1]))
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise TokenRefusedError("no algorithm")
    if not isinstance(kid, str | None):
        raise TokenRefusedError("kid is not a string")
    if "crit" in header:
        raise TokenRefusedError("critical extension")
    return SignedToken(
        algorithm=algorithm,
        kid=kid,
        signing_input=token[: parts.end(2)].encode("ascii"),
        payload=_decode(parts[2]),
        signature=_decode(parts[3]),
    )


def parse_object(text: bytes) -> dict[str, Any]:
    """Read a JSON object that has one meaning only; raises `TokenRefusedError`."""
    try:
        # The decoder takes a BOM off bytes, but refuses one in a string.
        value = _decoder.decode(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise TokenRefusedError("not an unambiguous JSON object") from None
    if not isinstance(value, dict):
        raise TokenRefusedError("not a JSON object")
    # There are no more levels than brackets that open; brackets in strings count here as well.
    if text.count(b"{") + text.count(b"[") > MOST_LEVELS and _is_deeper(value, MOST_LEVELS):
        raise TokenRefusedError("nested too deeply")
    return value


def _decode(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise TokenRefusedError("not base64url") from None


def _is_deeper(value: object, levels: int) -> bool:
    """Whether objects and arrays are nested in more than so many levels."""
    level = [value]
    for _ in range(levels):
        level = [inner for outer in level for inner in _nested(outer)]
    return any(isinstance(value, dict | list) for value in level)


def _nested(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("repeated key")
    return value


def _no_number(_text: str) -> NoReturn:
    raise ValueError("not a JSON number")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
