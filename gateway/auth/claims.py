"""From a token to what it says about a user.

Which key may verify a token is decided by the key, never by the token: the secret verifies HS256
and nothing else, an RSA key RS256, a P-256 key ES256. There is no key for `none`, and none under
which a public key would be taken for a secret.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog
from jose import jwk

from gateway.auth.jwks import LiveKeySet
from gateway.auth.jws import SignedToken, TokenRefusedError, parse_object, parse_token
from gateway.errors import InvalidTokenError, KeysUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jose.backends.base import Key
    from starlette.datastructures import Headers

    from gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

NOT_BEFORE_LEEWAY_SECONDS: Final = 5.0
"""How far the issuer's clock may be ahead. `exp` gets no leeway: it also ends the stream."""

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


class TokenVerifier:
    """Verifies tokens by the gateway's settings."""

    def __init__(
        self, settings: GatewaySettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Raise `KeySetError` where the file of the key set has gone bad since it was checked."""
        self._clock = clock
        self._algorithms = settings.algorithms
        self._issuer = settings.auth_jwt_issuer
        self._audience = settings.auth_jwt_audience
        self._role = settings.auth_role
        self._role_claim = settings.auth_role_claim
        self._roles = frozenset((settings.auth_role, *settings.auth_roles))
        secret = settings.auth_jwt_secret
        self._secret = None if secret is None else jwk.construct(secret.get_secret_value(), "HS256")
        self._key_set: LiveKeySet | None = None
        if settings.auth_jwks_file is not None:
            self._key_set = LiveKeySet.of_file(settings.auth_jwks_file)
        elif settings.auth_jwks_url is not None:
            self._key_set = LiveKeySet.of_url(settings.auth_jwks_url)

    async def run(self) -> None:
        """Follow the key set until cancelled; return at once where there is none."""
        if self._key_set is not None:
            await self._key_set.run()

    async def verify(self, token: str) -> Claims:
        """Verify a token.

        Raises `InvalidTokenError`, which never says why; the log does. `KeysUnavailableError` where
        the key set has never been read.
        """
        try:
            signed = parse_token(token)
            check_signature(signed, await self._keys(signed))
            return self._claims(signed.payload)
        except TokenRefusedError as error:
            log.info("token refused", reason=str(error))
            raise InvalidTokenError from None

    async def _keys(self, signed: SignedToken) -> tuple[Key, ...]:
        if signed.algorithm not in self._algorithms:
            raise TokenRefusedError("an algorithm that is not accepted")
        if signed.algorithm == "HS256":
            return () if self._secret is None else (self._secret,)
        if self._key_set is None:
            return ()
        keys = await self._key_set.find(signed.algorithm, signed.kid)
        if not self._key_set.is_known:
            raise KeysUnavailableError
        return keys

    def _claims(self, payload: bytes) -> Claims:
        claims = parse_object(payload)
        expires_at = seconds_of(claims, "exp")
        now = self._clock()
        if expires_at <= now:
            raise TokenRefusedError("expired")
        if "nbf" in claims and seconds_of(claims, "nbf") > now + NOT_BEFORE_LEEWAY_SECONDS:
            raise TokenRefusedError("not valid yet")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise TokenRefusedError("another issuer")
        if self._audience is not None and not _is_for(self._audience, claims.get("aud")):
            raise TokenRefusedError("another audience")
        if claims.get("mfa_pending", False) is not False:
            # AYB signs with the same secret what it hands out between password and second factor.
            raise TokenRefusedError("the second factor is still to come")
        return Claims(
            user_id=_text(claims, "sub"),
            email=_text(claims, "email"),
            tenant_id=_text(claims, "tenantId"),
            payload=payload.decode(),
            role=self._role_of(claims),
            expires_at=expires_at,
        )

    def _role_of(self, claims: Mapping[str, Any]) -> str:
        if self._role_claim is None or self._role_claim not in claims:
            return self._role
        role = claims[self._role_claim]
        if not isinstance(role, str) or role not in self._roles:
            raise TokenRefusedError("a role that is not on the list")
        return role


def check_signature(signed: SignedToken, keys: Iterable[Key]) -> None:
    """Raise `TokenRefusedError` unless one of the keys made the signature."""
    if not any(key.verify(signed.signing_input, signed.signature) for key in keys):
        raise TokenRefusedError("no key of ours made the signature")


def seconds_of(claims: Mapping[str, Any], name: str) -> float:
    """Read a required time claim (RFC 7519, NumericDate); raises `TokenRefusedError`."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefusedError(f"{name} is missing or not a number")
    if not 0 <= value <= _LAST_SECOND:
        raise TokenRefusedError(f"{name} is out of range")
    return float(value)


def _text(claims: Mapping[str, Any], name: str) -> str:
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


def _is_for(audience: str, claim: object) -> bool:
    return audience == claim or (isinstance(claim, list) and audience in claim)


def bearer_token(headers: Headers, query: Mapping[str, str]) -> str | None:
    """Find a request's token: in the header `Authorization`, which wins, or the parameter `token`.

    Raises `InvalidTokenError` where the header is there, but not one `Bearer` with a token.
    """
    given = headers.getlist("authorization")
    if not given:
        return query.get("token") or None
    scheme, _, token = given[0].strip().partition(" ")
    token = token.strip()
    if len(given) > 1 or scheme.lower() != "bearer" or not token or " " in token:
        log.info("token refused", reason="not one bearer token in the header")
        raise InvalidTokenError
    return token
