"""With the settings of docs/tokens.md, tokens of each issuer's documented shape are accepted."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.auth.verifier import TokenVerifier
from gateway.errors import InvalidTokenError
from gateway.settings import GatewaySettings
from shared.settings import load_settings
from tests.support.tokens import Signer, ec_signer, hs256, key_set, rsa_signer

DOCUMENT = Path(__file__).parents[2] / "docs/tokens.md"
NOW = int(time.time())
TIMES = {"iat": NOW, "exp": NOW + 3600}
UUID = "123e4567-e89b-12d3-a456-426614174000"


def blocks() -> dict[str, dict[str, str]]:
    """The settings that the page gives for each issuer."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Issuers")[2]
    found = re.findall(r"^### (\S+)\n+```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return {name: dict(line.split("=", 1) for line in lines.splitlines()) for name, lines in found}


TOKENS: dict[str, tuple[Signer | None, dict[str, Any]]] = {
    "Supabase": (
        ec_signer("sb", ec.SECP256R1),
        {
            "iss": "https://PROJECT.supabase.co/auth/v1", "aud": "authenticated", "sub": UUID,
            "role": "authenticated", "email": "u@x", "phone": "", "aal": "aal1",
            "session_id": UUID, "is_anonymous": False, "amr": [{"method": "password"}],
            "app_metadata": {"provider": "email", "providers": ["email"], "tenant_id": "t1"},
            "user_metadata": {"tenant_id": "mine"},
        },
    ),
    "Auth0": (
        rsa_signer("a0"),
        {
            "iss": "https://TENANT.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "aud": ["https://API.example.com", "https://TENANT.auth0.com/userinfo"],
            "azp": "client", "scope": "openid email", "org_id": "org_1", "permissions": [],
            "https://example.com/roles": ["editor"], "https://example.com/email": "u@x",
        },
    ),
    "Clerk": (
        rsa_signer("ck"),
        {
            "iss": "https://CLERK.example.com", "sub": "user_2b6fcd92", "azp": "https://x.example",
            "nbf": NOW - 10, "sid": "sess_1", "fva": [7, -1], "v": 2, "sts": "active",
            "o": {"id": "org_1", "slg": "acme", "rol": "admin", "per": "read,manage"},
        },
    ),
    "Keycloak": (
        rsa_signer("kc"),
        {
            "iss": "https://KEYCLOAK.example.com/realms/REALM", "aud": "account", "sub": UUID,
            "typ": "Bearer", "azp": "web", "sid": UUID, "acr": "1", "email": "u@x",
            "realm_access": {"roles": ["offline_access", "default-roles-REALM", "viewer"]},
            "resource_access": {"account": {"roles": ["view-profile"]}},
            "preferred_username": "u", "scope": "openid email profile",
        },
    ),
    "Firebase": (
        rsa_signer("fb"),
        {
            "iss": "https://securetoken.google.com/PROJECT", "aud": "PROJECT", "sub": "uid1",
            "user_id": "uid1", "auth_time": NOW, "email": "u@x", "email_verified": True,
            "firebase": {"identities": {"email": ["u@x"]}, "sign_in_provider": "password",
                         "tenant": "t1"},
        },
    ),
    "AYB": (None, {"sub": UUID, "email": "u@x", "jti": "0f" * 16}),
}  # fmt: skip

EXPECTED: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "Supabase": ("authenticated", UUID, "u@x", "t1", ()),
    "Auth0": ("editor", "auth0|5f7c8ec7c33c6c004bbafe82", "u@x", "org_1", ()),
    "Clerk": ("ayb_authenticated", "user_2b6fcd92", "", "org_1", ("admin",)),
    "Keycloak": ("viewer", UUID, "u@x", "", ()),
    "Firebase": ("ayb_authenticated", "uid1", "u@x", "t1", ("password",)),
    "AYB": ("ayb_authenticated", UUID, "u@x", "", ()),
}
"""The role, and the settings without request.jwt.claims."""


def verifier(
    name: str, signer: Signer | None, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> TokenVerifier:
    """A verifier with the settings of the page, read from the environment as a gateway does."""
    given = {**blocks()[name], "AYB_DATABASE_URL": "postgres://h/d", "AYB_REDIS_URL": "redis://h"}
    if signer is not None:
        assert given.pop("AYB_AUTH_JWKS_URL").startswith("https://")
        file = folder / "jwks.json"
        # Keycloak and others publish keys for encryption beside those for signatures.
        file.write_bytes(key_set(signer, rsa_signer("enc").jwk(use="enc", alg="RSA-OAEP")))
        given["AYB_AUTH_JWKS_FILE"] = str(file)
    for setting, value in given.items():
        monkeypatch.setenv(setting, value)
    return TokenVerifier(load_settings(GatewaySettings).token_options)


def test_the_page_has_each_issuer() -> None:
    """So that what follows is about all of them."""
    assert blocks().keys() == TOKENS.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_of_each_issuer(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It gives the right role and settings; for another issuer or audience it is refused."""
    signer, payload = TOKENS[name]
    given = verifier(name, signer, monkeypatch, tmp_path)

    def sign(claims: dict[str, Any]) -> str:
        if signer is not None:
            return signer.sign({**TIMES, **claims})
        return hs256({**TIMES, **claims}, secret=blocks()[name]["AYB_AUTH_JWT_SECRET"])

    found = await given.verify(sign(payload))
    user, email, tenant, _, *further = found.settings()
    assert (found.role, user, email, tenant, tuple(further)) == EXPECTED[name]
    for claim, setting in (("iss", "AYB_AUTH_JWT_ISSUER"), ("aud", "AYB_AUTH_JWT_AUDIENCE")):
        if setting in blocks()[name]:
            for other in ("https://other.example", None):
                with pytest.raises(InvalidTokenError):
                    await given.verify(sign({**payload, claim: other}))
