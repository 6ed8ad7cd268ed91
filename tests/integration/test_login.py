"""Login with AYB's own table of users in a real Postgres, over the gateway's own login."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from structlog.testing import capture_logs

from gateway.auth.issuer import TokenIssuer
from gateway.auth.login import Login
from gateway.auth.passwords import PasswordChecker
from gateway.auth.revoked_sessions import RevokedSessions
from gateway.auth.throttle import LoginThrottle
from gateway.auth.users import Users
from gateway.auth.verifier import TokenVerifier
from gateway.web.error_responses import install_error_handlers
from gateway.web.login import login_router
from shared.pool import open_pool
from tests.support.tokens import SECRET, USER_ID, claims, gateway_settings, hs256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from devstack.servers import ValkeyServer
    from tests.support.databases import Database

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse"
NO_REDIS = "redis://127.0.0.1:1"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z")

USERS = """
    CREATE TABLE public._ayb_users (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        email text,
        password_hash text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE UNIQUE INDEX ON public._ayb_users (lower(email));
    GRANT SELECT ON public._ayb_users TO ayb_gateway;
"""
SECOND_FACTORS = """
    CREATE TABLE public._ayb_user_mfa (
        user_id uuid NOT NULL REFERENCES public._ayb_users,
        method text NOT NULL,
        enabled boolean NOT NULL DEFAULT false,
        PRIMARY KEY (user_id, method)
    );
"""


@pytest.fixture
async def users(database: Database) -> Database:
    """A database with an AYB table of users, one of whom is USER_ID."""
    await database.execute(USERS)
    await database.execute(
        "INSERT INTO public._ayb_users VALUES ($1, 'User@Example.com', $2,"
        " '2026-02-07T23:00:00+01', '2026-02-07T22:00:00.5Z')",
        USER_ID,
        CHEAP.hash(PASSWORD),
    )
    return database


class Client:
    """Talks to the login routes as a browser at some address would."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def request(
        self, method: str, path: str, *, address: str = "192.0.2.1", **how: Any
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app, client=(address, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, f"/api/auth/{path}", **how)

    async def log_in(self, email: Any, password: Any, **how: Any) -> httpx.Response:
        return await self.request(
            "POST", "login", json={"email": email, "password": password}, **how
        )

    async def refresh(self, token: Any) -> httpx.Response:
        return await self.request("POST", "refresh", json={"refreshToken": token})

    async def log_out(self, token: Any) -> httpx.Response:
        return await self.request("POST", "logout", json={"refreshToken": token})

    async def me(self, token: str) -> httpx.Response:
        return await self.request("GET", "me", headers={"Authorization": f"Bearer {token}"})


@contextlib.asynccontextmanager
async def served(
    dsn: str, redis_url: str = NO_REDIS, throttle: LoginThrottle | None = None, **changes: Any
) -> AsyncIterator[Client]:
    """The routes over a pool like the gateway's."""
    settings = gateway_settings(auth_login_enabled=True, **changes)
    app = FastAPI()
    install_error_handlers(app)
    async with open_pool(
        dsn,
        application_name="ayb-gateway",
        most=4,
        settings={"default_transaction_read_only": "on"},
    ) as pool:
        users = Users(pool)
        login = Login(
            users=users,
            issuer=TokenIssuer(
                settings.auth_jwt_secret.get_secret_value(),
                issuer=settings.auth_jwt_issuer,
                audience=settings.auth_jwt_audience,
            ),
            passwords=PasswordChecker(),
            throttle=throttle or LoginThrottle(),
            revoked=RevokedSessions(redis_url),
        )
        app.include_router(
            login_router(login=login, users=users, verifier=TokenVerifier(settings.token_options))
        )
        yield Client(app)


@pytest.fixture
async def client(users: Database, valkey_server: ValkeyServer) -> AsyncIterator[Client]:
    async with served(users.gateway_dsn, valkey_server.url) as made:
        yield made


def is_error(response: httpx.Response, status: int, message: str) -> bool:
    return response.status_code == status and response.json() == {
        "code": status,
        "message": message,
    }


async def test_a_login_gives_tokens_and_the_user(client: Client) -> None:
    """A correct password gives exactly the protocol's JSON, with times as RFC 3339 in UTC."""
    response = await client.log_in("user@example.com", PASSWORD)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert list(body) == ["token", "refreshToken", "user"]
    assert body["user"] == {
        "id": USER_ID,
        "email": "User@Example.com",
        "createdAt": "2026-02-07T22:00:00Z",
        "updatedAt": "2026-02-07T22:00:00.5Z",
    }
    assert all(STAMP.fullmatch(body["user"][name]) for name in ("createdAt", "updatedAt"))
    found = await TokenVerifier(gateway_settings().token_options).verify(body["token"])
    assert found.settings()[:3] == (USER_ID, "User@Example.com", "")


@pytest.mark.parametrize("email", ["USER@EXAMPLE.COM", "  user@example.com\n", "User@example.com"])
async def test_case_and_blanks_of_an_address_do_not_matter(client: Client, email: str) -> None:
    """An e-mail address is found as AYB finds it."""
    assert (await client.log_in(email, PASSWORD)).status_code == 200


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("user@example.com", "wrong"),
        ("user@example.com", PASSWORD + " "),
        ("nobody@example.com", PASSWORD),
        ("user@example.co_", PASSWORD),
        ("' OR true --", PASSWORD),
        ("%", PASSWORD),
        ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}@x", PASSWORD),
    ],
)
async def test_a_wrong_address_looks_like_a_wrong_password(
    client: Client, email: str, password: str
) -> None:
    """Whether address or password is wrong, the response is the same."""
    response = await client.log_in(email, password)
    assert is_error(response, 401, "invalid email or password")


async def test_a_user_without_a_hash_that_is_known_here_cannot_log_in(
    users: Database, client: Client
) -> None:
    """Users without a password or with an old hash (bcrypt) are refused like wrong ones."""
    for number, stored in enumerate([None, "", "$2b$12$" + "x" * 53]):
        await users.execute(
            "INSERT INTO public._ayb_users (email, password_hash) VALUES ($1, $2)",
            f"{number}@example.com",
            stored,
        )
        for password in ("x", PASSWORD):
            response = await client.log_in(f"{number}@example.com", password)
            assert is_error(response, 401, "invalid email or password")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"[" * 10_000,
        b'{"email":"a@x"}',
        b'{"password":"x"}',
        b'{"email":"","password":"x"}',
        b'{"email":"a@x","password":""}',
        b'{"email":1,"password":"x"}',
        b'{"email":"a@x","password":["x"]}',
        b'{"email":"a\\u0000@x","password":"x"}',
        b'{"email":"\\ud800@x","password":"x"}',
        b'{"email":"' + b"a" * 321 + b'","password":"x"}',
        b"email=a%40x&password=x",
    ],
)
async def test_a_body_that_is_no_login_is_refused(client: Client, body: bytes) -> None:
    """Missing, empty and ill-typed members, and a body that is not JSON, are a 400."""
    response = await client.request("POST", "login", content=body)
    assert is_error(response, 400, "email and password are required")


async def test_bodies_are_bounded(client: Client) -> None:
    """A body of more than 16 KiB is refused, whether or not it states its length."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1024

    for content in (b" " * 17_000, parts()):
        response = await client.request("POST", "login", content=content)
        assert is_error(response, 413, "request body too large")


async def test_refreshing_goes_on_with_the_same_user(client: Client) -> None:
    """A refresh token gives the same shape as a login, with tokens that work."""
    first = (await client.log_in("user@example.com", PASSWORD)).json()
    response = await client.refresh(first["refreshToken"])
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    second = response.json()
    assert list(second) == ["token", "refreshToken", "user"]
    assert second["user"] == first["user"]
    assert (await client.me(second["token"])).json() == first["user"]
    assert (await client.refresh(second["refreshToken"])).status_code == 200


async def test_another_gateway_takes_the_refresh_token(
    users: Database, client: Client, valkey_server: ValkeyServer
) -> None:
    """Nothing is kept in a gateway: any replica with the secret renews a session."""
    first = (await client.log_in("user@example.com", PASSWORD)).json()
    async with served(users.gateway_dsn, valkey_server.url) as other:
        assert (await other.refresh(first["refreshToken"])).status_code == 200
    async with served(
        users.gateway_dsn, valkey_server.url, auth_jwt_secret=SECRET[::-1]
    ) as stranger:
        response = await stranger.refresh(first["refreshToken"])
        assert is_error(response, 401, "invalid or expired refresh token")


async def test_access_and_refresh_tokens_are_not_exchangeable(client: Client) -> None:
    """An access token renews nothing, and a refresh token opens nothing."""
    session = (await client.log_in("user@example.com", PASSWORD)).json()
    assert is_error(await client.refresh(session["token"]), 401, "invalid or expired refresh token")
    assert is_error(await client.me(session["refreshToken"]), 401, "invalid or expired token")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"refreshToken":""}', b'{"refreshToken":null}', b'{"refresh_token":"x"}']
)
async def test_without_a_refresh_token(client: Client, body: bytes) -> None:
    """A body without a refresh token is a 400."""
    response = await client.request("POST", "refresh", content=body)
    assert is_error(response, 400, "refreshToken is required")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE public._ayb_users SET password_hash = 'another'",
        "UPDATE public._ayb_users SET password_hash = NULL",
        "DELETE FROM public._ayb_users",
    ],
)
async def test_a_new_password_ends_all_sessions(
    users: Database, client: Client, change: str
) -> None:
    """Once the password has changed, or the user is gone, no refresh token is valid."""
    session = (await client.log_in("user@example.com", PASSWORD)).json()
    await users.execute(change)
    response = await client.refresh(session["refreshToken"])
    assert is_error(response, 401, "invalid or expired refresh token")


async def test_me_tells_who_one_is(users: Database, client: Client) -> None:
    """With a valid token it is the user; without, with a bad one or for a deleted user, a 401."""
    session = (await client.log_in("user@example.com", PASSWORD)).json()
    assert (await client.me(session["token"])).json() == session["user"]
    response = await client.request("GET", "me")
    assert is_error(response, 401, "authentication required")
    assert response.headers["www-authenticate"] == "Bearer"
    assert is_error(await client.me(session["token"] + "x"), 401, "invalid or expired token")
    for user_id in ("", "x", "00000000-0000-0000-0000-000000000000", "1; DROP TABLE _ayb_users"):
        token = hs256(claims(sub=user_id))
        assert is_error(await client.me(token), 401, "invalid or expired token")
    in_the_query = await client.request("GET", "me", params={"token": session["token"]})
    assert is_error(in_the_query, 401, "authentication required")


async def test_too_many_wrong_passwords(users: Database) -> None:
    """After too many failures an address is refused for a while, even with the right password;
    the account's owner, elsewhere, is not."""
    throttle = LoginThrottle(per_network=(100, 1.0), per_account=(3, 1000.0))
    async with served(users.gateway_dsn, throttle=throttle) as client:
        assert (await client.log_in("user@example.com", PASSWORD)).status_code == 200
        for email in ("user@example.com", "USER@example.com", " user@Example.com"):
            response = await client.log_in(email, "wrong", address="192.0.2.77")
            assert response.status_code == 401
        owner = await client.log_in("user@example.com", PASSWORD, address="192.0.2.1")
        assert owner.status_code == 200
        response = await client.log_in("user@example.com", PASSWORD, address="192.0.2.77")
        assert is_error(response, 429, "too many tries")
        assert 0 < int(response.headers["retry-after"]) <= 1000
        other = await client.log_in("other@example.com", PASSWORD, address="192.0.2.77")
        assert is_error(other, 401, "invalid email or password")


async def test_too_many_tries_from_one_network(users: Database) -> None:
    """After too many failures a network is refused, whatever e-mail address it tries."""
    throttle = LoginThrottle(per_network=(3, 1000.0), per_account=(100, 1.0))
    async with served(users.gateway_dsn, throttle=throttle) as client:
        for number in range(3):
            response = await client.log_in(f"{number}@x", "x", address=f"2001:db8::{number}")
            assert response.status_code == 401
        response = await client.log_in("user@example.com", PASSWORD, address="2001:db8::9")
        assert is_error(response, 429, "too many tries")
        away = await client.log_in("user@example.com", PASSWORD, address="2001:db8:1::9")
        assert away.status_code == 200


async def test_a_second_factor_is_never_left_out(users: Database, client: Client) -> None:
    """A user with a second factor in AYB gets no token here, by password or by refreshing."""
    await users.execute(SECOND_FACTORS)
    await users.execute("GRANT SELECT ON public._ayb_user_mfa TO ayb_gateway")
    await users.execute("INSERT INTO public._ayb_user_mfa VALUES ($1, 'sms', false)", USER_ID)
    session = (await client.log_in("user@example.com", PASSWORD)).json()
    await users.execute("UPDATE public._ayb_user_mfa SET enabled = true")
    response = await client.log_in("user@example.com", PASSWORD)
    assert is_error(response, 403, "second factor required")
    response = await client.refresh(session["refreshToken"])
    assert is_error(response, 403, "second factor required")
    response = await client.log_in("user@example.com", "wrong")
    assert is_error(response, 401, "invalid email or password")


@pytest.mark.parametrize(
    "change",
    [
        "REVOKE SELECT ON public._ayb_users FROM ayb_gateway",
        "DROP TABLE public._ayb_users",
        "ALTER TABLE public._ayb_users DROP COLUMN password_hash",
        SECOND_FACTORS,
    ],
)
async def test_missing_tables_and_grants_are_the_operators_affair(
    users: Database, client: Client, change: str
) -> None:
    """Without tables or grants no one can log in: 503 for the client, the remedy in the log."""
    await users.execute(change)
    with capture_logs() as logs:
        response = await client.log_in("user@example.com", PASSWORD)
    assert is_error(response, 503, "database unavailable")
    assert int(response.headers["retry-after"]) > 0
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert "needs SELECT on AYB's table _ayb_users" in entry["event"]


async def test_without_a_database() -> None:
    """While the database is away, login is a 503 and no try is counted."""
    throttle = LoginThrottle(per_network=(1, 1000.0), per_account=(1, 1000.0))
    async with served("postgres://ayb_gateway@127.0.0.1:1/none", throttle=throttle) as client:
        for _ in range(3):
            response = await client.log_in("user@example.com", PASSWORD)
            assert is_error(response, 503, "database unavailable")


async def test_neither_passwords_nor_tokens_are_logged(client: Client) -> None:
    """Whatever is sent, no log line contains a password, a token or an e-mail address."""
    with capture_logs() as logs:
        session = (await client.log_in("user@example.com", PASSWORD)).json()
        await client.log_in("user@example.com", "wr0ng-secret")
        await client.refresh(session["refreshToken"])
        await client.refresh(session["refreshToken"] + "AAAA")
        await client.me(session["token"] + "AAAA")
    assert len(logs) == 3
    for secret in (PASSWORD, "wr0ng", "example.com", session["token"], session["refreshToken"]):
        assert secret not in str(logs)
        assert secret[-20:] not in str(logs)


async def test_the_paths_are_in_the_openapi_document(users: Database) -> None:
    """The document describes bodies and refusals, in the names of the wire."""
    async with served(users.gateway_dsn) as client:
        document = (await client.request("GET", "../../openapi.json")).json()
    operation = document["paths"]["/api/auth/login"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["email", "password"]
    assert {"200", "400", "401", "403", "413", "429", "503"} <= operation["responses"].keys()
    refresh = document["paths"]["/api/auth/refresh"]["post"]["requestBody"]["content"]
    assert refresh["application/json"]["schema"]["required"] == ["refreshToken"]
    assert "createdAt" in document["components"]["schemas"]["User"]["properties"]
