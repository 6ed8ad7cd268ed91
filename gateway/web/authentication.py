"""The identity behind a request: the claims of its token or API key, and the role it acts as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.auth.claims import anonymous_settings
from gateway.errors import AuthenticationRequiredError, NotConfiguredError
from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.web.bearer import bearer_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers

    from gateway.auth.claims import Claims
    from gateway.auth.verifier import TokenVerifier
    from gateway.tables.roles import Roles
    from gateway.visibility.cohorts import Settings


@dataclass(frozen=True, slots=True)
class Identity:
    """A client that may act as a role.

    `claims` is None without a token, `role` is None while authentication is off. `settings` are
    those that policies read; no policy is evaluated while authentication is off.
    """

    claims: Claims | None
    role: str | None
    settings: Settings


class Authentication:
    """Identifies clients; `verifier` is None while authentication is off.

    `anonymous_role` is the role of clients without a token; if it is None, they are refused.
    """

    def __init__(
        self,
        *,
        verifier: TokenVerifier | None,
        anonymous_role: str | None,
        roles: Roles,
        setting_names: tuple[str, ...] = KNOWN_SETTINGS,
    ) -> None:
        self._verifier = verifier
        self._anonymous_role = anonymous_role
        self._roles = roles
        self._no_settings: Settings = ("",) * len(setting_names)
        self._further = len(setting_names) - len(KNOWN_SETTINGS)

    async def identify(
        self, headers: Headers, query: Mapping[str, str], address: str = ""
    ) -> Identity:
        """Identify the client behind a request; `address` is where it comes from.

        Raises the refusals of `gateway.errors`, and `DatabaseUnavailableError`.
        """
        if self._verifier is None:
            return Identity(None, None, self._no_settings)
        token = bearer_token(headers, query)
        if token is not None:
            claims = await self._verifier.verify(token, address)
            identity = Identity(claims, claims.role, claims.settings())
            role = claims.role
        elif self._anonymous_role is not None:
            role = self._anonymous_role
            identity = Identity(None, role, anonymous_settings(role, self._further))
        else:
            raise AuthenticationRequiredError
        if await self._roles.fault_of(role) is not None:
            raise NotConfiguredError
        return identity
