"""From a token to what it says about a user.

Which key may verify a token is decided by the key, never by the token: the secret verifies HS256
and nothing else, a public key the one algorithm that it is for (see `gateway.auth.public_key`).
There is no key for `none`, and none under which a public key would be taken for a secret.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from gateway.auth.api_keys import ApiKeys, is_api_key
from gateway.auth.claim_mapping import ClaimMapping
from gateway.auth.claims import Claims, is_for, seconds_of
from gateway.auth.jwks import LiveKeySet
from gateway.auth.jws import (
    SignedToken,
    TokenExpiredError,
    TokenRefusedError,
    parse_object,
    parse_token,
)
from gateway.auth.shared_secret import SharedSecret
from gateway.auth.verified_tokens import VerifiedTokens
from gateway.errors import ExpiredTokenError, InvalidTokenError, KeysUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gateway.auth.claim_path import ClaimPath
    from gateway.auth.claim_settings import ClaimSetting
    from gateway.auth.public_key import Key


log = structlog.get_logger(__name__)

NOT_BEFORE_LEEWAY_SECONDS: Final = 5.0
"""How far the issuer's clock may be ahead. `exp` gets no leeway: it also ends the stream."""


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """Which tokens are accepted, and what their claims mean.

    `secret` verifies HS256; `jwks_file` or `jwks_url` holds the keys of the other algorithms.
    `default_role`, `role_claim`, `roles` and `claim_settings` map claims to a role and settings:
    see `ClaimMapping`.
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

    @property
    def mapping(self) -> ClaimMapping:
        """What claims mean."""
        return ClaimMapping(
            default_role=self.default_role,
            role_claim=self.role_claim,
            roles=self.roles,
            claim_settings=self.claim_settings,
        )


class TokenVerifier:
    """Verifies tokens."""

    def __init__(
        self,
        options: TokenOptions,
        *,
        api_keys: ApiKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raise `KeySetError` where the file of the key set cannot be used.

        `api_keys` is None where API keys are not accepted.
        """
        self._options = options
        self._clock = clock
        self._mapping = options.mapping
        self._api_keys = api_keys
        self._verified = VerifiedTokens()
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

    async def verify(self, token: str, address: str = "") -> Claims:
        """Verify a token, or an API key, that came from an address.

        Raises `InvalidTokenError`, or `ExpiredTokenError` if the token has expired; neither says
        more, but the log does. Raises `KeysUnavailableError` if the key set has never been read
        and, for an API key, whatever `ApiKeys.verify` raises.
        """
        if self._api_keys is not None and is_api_key(token):
            return await self._api_keys.verify(token, address)
        try:
            return await self._verify(token)
        except TokenRefusedError as error:
            log.info("token refused", reason=str(error))
            raise (
                ExpiredTokenError() if isinstance(error, TokenExpiredError) else InvalidTokenError()
            ) from None

    async def _verify(self, token: str) -> Claims:
        found = self._verified.get(token, self._keys_in_force)
        if found is not None:
            return self._unexpired(found)
        signed = parse_token(token)
        check_signature(signed, await self._keys(signed))
        # Without a wait from here to the end: the keys in force are those that were found.
        found = self._unexpired(self._claims(signed.payload))
        self._verified.keep(token, self._keys_in_force, found)
        return found

    @property
    def _keys_in_force(self) -> object:
        return None if self._key_set is None else self._key_set.current

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
        return self._mapping.read(claims, payload.decode(), expires_at=expires_at)

    def _unexpired(self, claims: Claims) -> Claims:
        if claims.expires_at is not None and claims.expires_at <= self._clock():
            raise TokenExpiredError("expired")
        return claims


def check_signature(signed: SignedToken, keys: Iterable[Key]) -> None:
    """Raise `TokenRefusedError` unless one of the keys made the signature."""
    if not any(key.verify(signed.signing_input, signed.signature) for key in keys):
        raise TokenRefusedError("signature matches no key")
