"""Log-out, with sessions in a real Valkey that goes away, freezes and forgets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gateway.auth.issuer import REFRESH_SECONDS, TokenIssuer
from gateway.auth.revoked_sessions import RevokedSessions
from gateway.errors import SessionsUnavailableError
from shared.redis import redis_client
from tests.integration.test_login import (  # noqa: F401 (fixtures)
    PASSWORD,
    Client,
    client,
    is_error,
    served,
    users,
)
from tests.support.tokens import SECRET, USER_ID

if TYPE_CHECKING:
    from devstack.servers import ValkeyServer
    from tests.support.databases import Database

VOID = (401, "invalid or expired refresh token")


async def test_a_session_ends_on_every_gateway(
    users: Database,  # noqa: F811
    client: Client,  # noqa: F811
    valkey_server: ValkeyServer,
) -> None:
    """All refresh tokens of the session are void, on all gateways; other sessions live on."""
    first = (await client.log_in("user@example.com", PASSWORD)).json()
    other = (await client.log_in("user@example.com", PASSWORD)).json()
    async with served(users.gateway_dsn, valkey_server.url) as second:
        renewed = (await second.refresh(first["refreshToken"])).json()
        response = await client.log_out(renewed["refreshToken"])
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["cache-control"] == "no-store"
        for gateway in (client, second):
            for session in (first, renewed):
                assert is_error(await gateway.refresh(session["refreshToken"]), *VOID)
            assert (await gateway.refresh(other["refreshToken"])).status_code == 200
        assert (await client.log_out(first["refreshToken"])).status_code == 204
        assert (await client.log_in("user@example.com", PASSWORD)).status_code == 200


async def test_what_is_recorded_outlives_every_refresh_token(
    client: Client,  # noqa: F811
    valkey_server: ValkeyServer,
) -> None:
    """It is kept as long as a token can be valid, no longer; Redis holds nothing of the token."""
    session = (await client.log_in("user@example.com", PASSWORD)).json()
    redis = redis_client(valkey_server.url)
    before = set(await redis.keys("*"))
    await client.log_out(session["refreshToken"])
    (name,) = set(await redis.keys("*")) - before
    seconds = await redis.ttl(name)
    issuer = TokenIssuer(SECRET)
    claims = issuer.read_refresh_token(session["refreshToken"])
    await redis.aclose()
    assert REFRESH_SECONDS < seconds <= REFRESH_SECONDS + 300
    assert name.decode() == f"ayb:realtime:logout:{issuer.session_digest(claims.session)}"
    assert claims.session not in name.decode()
    assert TokenIssuer(SECRET[::-1]).session_digest(claims.session) not in name.decode()


@pytest.mark.parametrize("token", ["x", "", None, 7])
async def test_a_token_that_is_not_valid_ends_nothing(
    client: Client,  # noqa: F811
    token: object,
) -> None:
    """As AYB answers it: 204 for whatever is a text, 400 without one; Redis is not asked."""
    response = await client.log_out(token)
    if token == "x":
        assert response.status_code == 204
    else:
        assert is_error(response, 400, "refreshToken is required")


async def test_a_token_of_a_release_without_sessions(
    client: Client,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is a session by itself, which its renewals share."""
    issuer = TokenIssuer(SECRET)
    from jose import jwt  # noqa: PLC0415 (the library under the product)

    session = (await client.log_in("user@example.com", PASSWORD)).json()
    claims = jwt.get_unverified_claims(session["refreshToken"])
    del claims["sid"], claims["jti"]
    old = jwt.encode(claims, issuer._refresh_secret, algorithm="HS256")
    renewed = (await client.refresh(old)).json()
    assert (await client.log_out(renewed["refreshToken"])).status_code == 204
    assert is_error(await client.refresh(old), *VOID)


async def test_without_redis_neither_succeeds(
    users: Database,  # noqa: F811
    own_valkey: ValkeyServer,
) -> None:
    """Down or frozen: refresh and log-out are 503 and say when to try again; log-in is not.

    Once it is back both work, and what was recorded before counts.
    """
    async with served(users.gateway_dsn, own_valkey.url) as gateway:
        gone = (await gateway.log_in("user@example.com", PASSWORD)).json()["refreshToken"]
        assert (await gateway.log_out(gone)).status_code == 204
        own_valkey.pause()
        kept = (await gateway.log_in("user@example.com", PASSWORD)).json()["refreshToken"]
        for response in await asyncio.gather(gateway.refresh(kept), gateway.log_out(kept)):
            assert is_error(response, 503, "sessions unavailable")
            assert int(response.headers["retry-after"]) > 0
        own_valkey.resume()
        assert is_error(await gateway.refresh(gone), *VOID)
        assert (await gateway.refresh(kept)).status_code == 200
        await asyncio.to_thread(own_valkey.stop)
        for response in (await gateway.refresh(kept), await gateway.log_out(kept)):
            assert is_error(response, 503, "sessions unavailable")
        own_valkey.start()
        assert (await gateway.refresh(kept)).status_code == 200
        assert (await gateway.log_out(kept)).status_code == 204
        assert is_error(await gateway.refresh(kept), *VOID)


async def test_an_acl_that_forbids_it_is_named(own_valkey: ValkeyServer) -> None:
    """The log says which commands and keys are needed; the client is refused for the moment."""
    redis = redis_client(own_valkey.url)
    await redis.execute_command("ACL", "SETUSER", "g", "on", ">p", "resetkeys", "~other:*", "+@all")
    url = own_valkey.url.replace("redis://", "redis://g:p@")
    sessions = RevokedSessions(url)
    with capture_logs() as logs:
        for question in (sessions.has("x"), sessions.add("x", 9)):
            with pytest.raises(SessionsUnavailableError):
                await question
    assert [entry["keys"] for entry in logs] == ["ayb:realtime:logout:*"] * 2
    await redis.execute_command("ACL", "SETUSER", "g", "~ayb:realtime:logout:*", "-@all", "+set",
                                "+exists")  # fmt: skip
    await sessions.add("x", 9)
    assert await sessions.has("x")
    assert not await RevokedSessions(own_valkey.url, prefix="mine").has("x")
    await redis.execute_command("ACL", "DELUSER", "g")
    await redis.aclose()


def test_refresh_tokens_of_one_session_differ() -> None:
    """Each is another token, also within a second, and names the session it was made for."""
    issuer = TokenIssuer(SECRET)
    tokens = {issuer.refresh_token(USER_ID, "h", "s") for _ in range(3)}
    assert len(tokens) == 3
    assert {issuer.read_refresh_token(token).session for token in tokens} == {"s"}
    sessions = {issuer.read_refresh_token(issuer.refresh_token(USER_ID, "h")).session
                for _ in range(3)}  # fmt: skip
    assert len(sessions) == 3
