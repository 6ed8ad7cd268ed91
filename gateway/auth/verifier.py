"""From a token to what it says about a user.

Which key may verify a token is decided by the key, never by the token: the secret verifies HS256
and nothing else, a public key the one algorithm that it is for (see `gateway.auth.public_key`).
There is no key for `none`, and none under which a public key would be taken for a secret.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.auth.claim_path import ABSENT, ClaimPath
from gateway.auth.claim_settings import ClaimSetting, names_of, value_of
from gateway.auth.claims import Claims, id_of, is_for, seconds_of, text_of
from gateway.auth.jwks import LiveKeySet
from gateway.auth.jws import SignedToken, TokenRefusedError, parse_object, parse_token
from gateway.auth.shared_secret import SharedSecret
from gateway.errors import InvalidTokenError, KeysUnavailableError
from gateway.visibility.cohorts import KNOWN_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from gateway.auth.public_key import Key


log = structlog.get_logger(__name__)

NOT_BEFORE_LEEWAY_SECONDS: Final = 5.0
"""How far the issuer's clock may be ahead. `exp` gets no leeway: it also ends the stream."""


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """Which tokens are accepted, and which role they give.

    `secret` verifies HS256; `jwks_file` or `jwks_url` hold the keys of the other algorithms. A
    token's role is `default_role`, or the value of `role_claim` where that is one of `roles`; of a
    list, the first of `roles` that is in it. `claim_settings` says which further claims become
    settings of the client.
    """

    algorithms: frozenset[str]
    default_role: str
    secret: str | None = field(default=None, repr=False)
    jwks_file: Path | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None
    role_claim: ClaimPath | None = None
    roles: tuple[str, ...] = ()
    claim_settings: tuple[ClaimSetting, ...] = ()


class TokenVerifier:
    """Verifies tokens."""

    def __init__(self, options: TokenOptions, *, clock: Callable[[], float] = time.time) -> None:
        """Raise `KeySetError` where the file of the key set cannot be used."""
        self._options = options
        self._clock = clock
        self._further = names_of(options.claim_settings)[len(KNOWN_SETTINGS) :]
        secret = options.secret
        self._secret = None if secret is None else SharedSecret(secret)
        self._key_set: LiveKeySet | None = None
        if options.jwks_file is not None:
            self._key_set = LiveKeySet.of_file(options.jwks_file)
        elif options.jwks_url is not None:
            self._key_set = LiveKeySet.of_url(options.jwks_url)

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
        if signed.algorithm not in self._options.algorithms:
            raise TokenRefusedError("algorithm is not accepted")
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
        if self._options.issuer is not None and claims.get("iss") != self._options.issuer:
            raise TokenRefusedError("issuer is not ours")
        if self._options.audience is not None and not is_for(
            self._options.audience, claims.get("aud")
        ):
            raise TokenRefusedError("audience is not ours")
        if claims.get("mfa_pending", False) is not False:
            # AYB signs with the same secret what it hands out between password and second factor.
            raise TokenRefusedError("second factor pending")
        mapped = {s.name: value_of(claims, s.path) for s in self._options.claim_settings}
        user_id, email, tenant_id = self._own_settings(claims, mapped)
        return Claims(
            user_id=user_id,
            email=email,
            tenant_id=tenant_id,
            payload=payload.decode(),
            role=self._role_of(claims),
            expires_at=expires_at,
            further=tuple(mapped[name] for name in self._further),
        )

    def _own_settings(
        self, claims: Mapping[str, Any], mapped: Mapping[str, str]
    ) -> tuple[str, str, str]:
        """Return ayb.user_id, ayb.user_email and ayb.tenant_id, from the claims they are set to."""
        return (
            mapped["ayb.user_id"] if "ayb.user_id" in mapped else id_of(claims, "sub"),
            mapped["ayb.user_email"] if "ayb.user_email" in mapped else text_of(claims, "email"),
            mapped["ayb.tenant_id"] if "ayb.tenant_id" in mapped else id_of(claims, "tenantId"),
        )

    def _role_of(self, claims: Mapping[str, Any]) -> str:
        if self._options.role_claim is None:
            return self._options.default_role
        role = self._options.role_claim.find(claims)
        if role is ABSENT:
            return self._options.default_role
        if isinstance(role, list):
            named = (name for name in self._options.roles if name in role)
            return next(named, self._options.default_role)
        if not isinstance(role, str) or role not in self._options.roles:
            raise TokenRefusedError("role is not on the list")
        return role


def check_signature(signed: SignedToken, keys: Iterable[Key]) -> None:
    """Raise `TokenRefusedError` unless one of the keys made the signature."""
    if not any(key.verify(signed.signing_input, signed.signature) for key in keys):
        raise TokenRefusedError("signature matches no key")
