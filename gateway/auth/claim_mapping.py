"""From the claims of a verified token, or of an API key, to what they mean here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.auth.claim_path import ABSENT, ClaimPath
from gateway.auth.claim_settings import ClaimSetting, names_of, value_of
from gateway.auth.claims import Claims, id_of, text_of
from gateway.auth.jws import TokenRefusedError
from gateway.visibility.cohorts import KNOWN_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ClaimMapping:
    """Says which role claims give, and which settings.

    The role is `default_role`, or the value of `role_claim` where that is one of `roles`; of a
    list, the first of `roles` that is in it. `claim_settings` says which further claims become
    settings.
    """

    def __init__(
        self,
        *,
        default_role: str,
        role_claim: ClaimPath | None = None,
        roles: Sequence[str] = (),
        claim_settings: Sequence[ClaimSetting] = (),
    ) -> None:
        self._default_role = default_role
        self._role_claim = role_claim
        self._roles = tuple(roles)
        self._claim_settings = tuple(claim_settings)
        self._further = names_of(claim_settings)[len(KNOWN_SETTINGS) :]

    def read(
        self,
        claims: Mapping[str, Any],
        payload: str,
        *,
        expires_at: float | None,
        key_digest: str | None = None,
        allowed_tables: frozenset[str] = frozenset(),
    ) -> Claims:
        """Read claims; `payload` is their JSON, the other values become those of the result.

        Raises `TokenRefusedError`.
        """
        mapped = {s.name: value_of(claims, s.path) for s in self._claim_settings}
        user_id = mapped["ayb.user_id"] if "ayb.user_id" in mapped else id_of(claims, "sub")
        email = mapped["ayb.user_email"] if "ayb.user_email" in mapped else text_of(claims, "email")
        tenant = mapped["ayb.tenant_id"] if "ayb.tenant_id" in mapped else id_of(claims, "tenantId")
        return Claims(
            user_id=user_id,
            email=email,
            tenant_id=tenant,
            payload=payload,
            role=self._role_of(claims),
            expires_at=expires_at,
            further=tuple(mapped[name] for name in self._further),
            key_digest=key_digest,
            allowed_tables=allowed_tables,
        )

    def _role_of(self, claims: Mapping[str, Any]) -> str:
        if self._role_claim is None:
            return self._default_role
        role = self._role_claim.find(claims)
        if role is ABSENT:
            return self._default_role
        if isinstance(role, list):
            return next((name for name in self._roles if name in role), self._default_role)
        if not isinstance(role, str) or role not in self._roles:
            raise TokenRefusedError("role is not on the list")
        return role
