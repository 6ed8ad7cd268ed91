from __future__ import annotations

import pytest
from jose import jwt

from gateway.auth.issuer import ACCESS_SECONDS, REFRESH_SECONDS, TokenIssuer
from gateway.auth.jws import TokenRefusedError
from gateway.auth.verifier import TokenVerifier
from tests.support.tokens import SECRET, USER_ID, encode, gateway_settings, hs256, rsa_signer

NOW = 1_800_000_000.0


def issuer(now: float = NOW, secret: str = SECRET) -> TokenIssuer:
    return TokenIssuer(secret, clock=lambda: now)


async def test_an_access_token_is_accepted_for_fifteen_minutes() -> None:
    """The gateway takes its own access token for 15 minutes; no two of them are the same."""
    token = issuer().access_token(USER_ID, "user@example.com")
    found = await TokenVerifier(gateway_settings().token_options, clock=lambda: NOW).verify(token)
    assert found.settings()[:3] == (USER_ID, "user@example.com", "")
    assert found.expires_at == NOW + ACCESS_SECONDS == NOW + 900
    assert jwt.get_unverified_claims(token).keys() == {"sub", "email", "iat", "exp", "jti"}
    assert issuer().access_token(USER_ID, "user@example.com") != token


async def test_an_access_token_passes_the_configured_issuer_and_audience() -> None:
    """Where tokens must name issuer and audience, those of the login do."""
    token = TokenIssuer(SECRET, issuer="me", audience="app").access_token(USER_ID, "")
    settings = gateway_settings(auth_jwt_issuer="me", auth_jwt_audience="app")
    assert (await TokenVerifier(settings.token_options).verify(token)).user_id == USER_ID


def test_a_refresh_token_names_its_user_for_seven_days() -> None:
    """A refresh token names the user it was made for, for 7 days."""
    token = issuer().refresh_token(USER_ID, "hash")
    assert issuer(NOW + REFRESH_SECONDS - 1).read_refresh_token(token).user_id == USER_ID
    with pytest.raises(TokenRefusedError):
        issuer(NOW + REFRESH_SECONDS).read_refresh_token(token)
    assert REFRESH_SECONDS == 7 * 86_400


def test_a_refresh_token_ends_with_the_password() -> None:
    """A refresh token is for the password it was made with, and holds nothing of its hash."""
    token = issuer().refresh_token(USER_ID, "hash of the old one")
    mark = issuer().read_refresh_token(token).password_mark
    assert issuer().is_current(mark, "hash of the old one")
    assert not issuer().is_current(mark, "hash of the new one")
    assert not issuer().is_current(mark, "")
    assert "hash" not in str(jwt.get_unverified_claims(token))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        issuer().access_token(USER_ID, ""),
        issuer(secret=SECRET[::-1]).refresh_token(USER_ID, "hash"),
        hs256({"typ": "refresh", "sub": USER_ID, "pwd": "", "exp": NOW + 9}),
        rsa_signer("r").sign({"typ": "refresh", "sub": USER_ID, "pwd": "", "exp": NOW + 9}),
        ".".join(map(encode, (b'{"alg":"none"}', b'{"sub":"x","pwd":"","exp":4102444800}', b"x"))),
    ],
)
def test_nothing_else_is_a_refresh_token(token: str) -> None:
    """An access token, one of another secret, and made-up ones are no refresh tokens."""
    with pytest.raises(TokenRefusedError):
        issuer().read_refresh_token(token)
