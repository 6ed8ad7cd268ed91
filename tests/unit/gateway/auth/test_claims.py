from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from gateway.auth.claims import Claims
from gateway.auth.verifier import NOT_BEFORE_LEEWAY_SECONDS, TokenVerifier
from gateway.errors import ExpiredTokenError, InvalidTokenError
from gateway.web.bearer import bearer_token
from tests.support.tokens import (
    USER_ID,
    as_json,
    claims,
    ec_signer,
    encode,
    gateway_settings,
    hs256,
    key_set,
    rsa_signer,
)

if TYPE_CHECKING:
    from pathlib import Path


def verifier(**changes: Any) -> TokenVerifier:
    return TokenVerifier(gateway_settings(**changes).token_options)


async def test_a_good_token_gives_its_claims() -> None:
    """sub, email and tenantId become the settings, and all claims the JSON as it was signed."""
    payload = (
        b'{ "tenantId" : "t-1", "sub":"' + USER_ID.encode() + b'","email":"u@example.com",\n'
        b'"exp": 4102444800.5, "big": 12345678901234567890.10, "nested": {"a": [1]} }'
    )
    found = await verifier().verify(hs256(payload))
    assert found == Claims(
        user_id=USER_ID,
        email="u@example.com",
        tenant_id="t-1",
        payload=payload.decode(),
        role="ayb_authenticated",
        expires_at=4102444800.5,
    )
    assert found.settings() == (USER_ID, "u@example.com", "t-1", payload.decode())


async def test_absent_claims_are_empty() -> None:
    """Without sub, email and tenantId the settings are empty strings."""
    found = await verifier().verify(hs256({"exp": 4102444800, "email": None, "tenantId": None}))
    assert found.settings()[:3] == ("", "", "")


async def test_claims_do_not_show_whom_they_are_about_in_logs() -> None:
    """The text form of claims has neither the e-mail address nor the other claims."""
    found = await verifier().verify(hs256(claims(phone="555-1234")))
    assert "example.com" not in repr(found)
    assert "555" not in repr(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": 4.5},
        {"sub": 1e3},
        {"sub": None},
        {"sub": True},
        {"tenantId": False},
        {"tenantId": 7.0},
        {"email": 42},
        {"sub": ["x"]},
        {"email": {"a": 1}},
        {"sub": "a\x00b"},
        {"email": "\ud800"},
    ],
)
async def test_a_claim_that_is_no_text_is_refused(changes: dict[str, Any]) -> None:
    """What cannot become a setting of Postgres, letter for letter, is refused."""
    with pytest.raises(InvalidTokenError):
        await verifier().verify(hs256(claims(**changes)))


@pytest.mark.parametrize("number", [0, 42, -7, 9007199254740993, 10**30])
async def test_an_integer_counts_as_its_decimal_text(number: int) -> None:
    """Issuers whose users or tenants are numbers write them as numbers: every digit is kept."""
    found = await verifier().verify(hs256(claims(sub=number, tenantId=number)))
    assert (found.user_id, found.tenant_id) == (str(number), str(number))
    assert json.loads(found.payload)["sub"] == number


@pytest.mark.parametrize(
    "exp",
    [..., None, "4102444800", True, [], {}, 0, -1, 1e30, 10**30, 10**400, 253402300800],
)
async def test_exp_must_be_a_sensible_time(exp: Any) -> None:
    """A token without an end, or with one that is no time, is refused."""
    with pytest.raises(InvalidTokenError):
        await verifier().verify(hs256(claims(exp=exp)))


@pytest.mark.parametrize("exp", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" + b"0" * 5000])
async def test_exp_must_be_a_number_of_json(exp: bytes) -> None:
    """Numbers that only some parsers know, or that overflow, are refused."""
    with pytest.raises(InvalidTokenError):
        await verifier().verify(hs256(b'{"sub":"x","exp":' + exp + b"}"))


async def test_a_token_ends_at_its_exp_to_the_second() -> None:
    """exp has no leeway: a token is good before it and refused from it on."""
    now = 1_800_000_000.0
    strict = TokenVerifier(gateway_settings().token_options, clock=lambda: now)
    assert (await strict.verify(hs256(claims(exp=now + 0.5)))).expires_at == now + 0.5
    with pytest.raises(InvalidTokenError):
        await strict.verify(hs256(claims(exp=now)))


async def test_a_token_begins_at_its_nbf() -> None:
    """nbf is checked, with a few seconds for clocks that differ; an ill-typed one is refused."""
    now = time.time()
    await verifier().verify(hs256(claims(nbf=now + NOT_BEFORE_LEEWAY_SECONDS - 1)))
    for nbf in (now + NOT_BEFORE_LEEWAY_SECONDS + 60, str(now), None, True):
        with pytest.raises(InvalidTokenError):
            await verifier().verify(hs256(claims(nbf=nbf)))


@pytest.mark.parametrize(
    ("given_claims", "is_good"),
    [
        ({"iss": "https://id", "aud": "app"}, True),
        ({"iss": "https://id", "aud": ["other", "app"]}, True),
        ({"iss": "https://id", "aud": "app2"}, False),
        ({"iss": "https://id", "aud": ["other"]}, False),
        ({"iss": "https://id", "aud": {"app": 1}}, False),
        ({"iss": "https://id"}, False),
        ({"iss": "https://id2", "aud": "app"}, False),
        ({"iss": ["https://id"], "aud": "app"}, False),
        ({"aud": "app"}, False),
    ],
)
async def test_issuer_and_audience_count_where_configured(
    given_claims: dict[str, Any], is_good: bool
) -> None:
    """With AUTH_JWT_ISSUER and _AUDIENCE set, tokens of others are refused; else both are free."""
    token = hs256(claims(**given_claims))
    await verifier().verify(token)
    strict = verifier(auth_jwt_issuer="https://id", auth_jwt_audience="app")
    if is_good:
        await strict.verify(token)
    else:
        with pytest.raises(InvalidTokenError):
            await strict.verify(token)


async def test_the_role_claim_counts_where_configured() -> None:
    """A role comes from the configured claim only, and only from the list; else it is refused."""
    free = verifier()
    assert (await free.verify(hs256(claims(role="postgres")))).role == "ayb_authenticated"
    strict = verifier(auth_role_claim="role", auth_roles=("editor", "viewer"))
    assert (await strict.verify(hs256(claims(role="editor")))).role == "editor"
    assert (await strict.verify(hs256(claims(role="ayb_authenticated")))).role
    assert (await strict.verify(hs256(claims()))).role == "ayb_authenticated"
    for role in ("postgres", "Editor", "", None, {"editor": 1}, "editor\x00", 1):
        with pytest.raises(InvalidTokenError):
            await strict.verify(hs256(claims(role=role)))


@pytest.mark.parametrize(
    ("claim", "given", "role"),
    [
        ("app_metadata.role", {"app_metadata": {"role": "editor"}}, "editor"),
        ("a.b.c", {"a": {"b": {"c": "editor"}}}, "editor"),
        ("https://x.example/role", {"https://x.example/role": "editor"}, "editor"),
        ("a.role", {"a.role": "editor", "a": {"role": "viewer"}}, "editor"),
        ("app_metadata.role", {}, "ayb_authenticated"),
        ("app_metadata.role", {"app_metadata": {}}, "ayb_authenticated"),
        ("app_metadata.role", {"app_metadata": "role"}, "ayb_authenticated"),
        ("app_metadata.role", {"app_metadata": None}, "ayb_authenticated"),
        ("app_metadata.role", {"role": "editor"}, "ayb_authenticated"),
        ("app_metadata.role", {"app_metadata": {"role": "postgres"}}, None),
        ("app_metadata.role", {"app_metadata": {"role": None}}, None),
        ('"https://x.example/role"', {"https://x.example/role": "editor"}, "editor"),
        ("realm_access.roles", {"realm_access": {"roles": ["offline", "editor"]}}, "editor"),
        ("roles", {"roles": ["viewer", "editor"]}, "editor"),
        ("roles", {"roles": ["postgres"]}, "ayb_authenticated"),
        ("roles", {"roles": []}, "ayb_authenticated"),
        ("roles", {"roles": [["editor"], {"editor": 1}, None]}, "ayb_authenticated"),
    ],
)
async def test_a_nested_role_claim(claim: str, given: dict[str, Any], role: str | None) -> None:
    """A path names a nested claim, a claim of the path's own name first.

    Of a list of roles, the first of the configured roles that is in it counts.
    """
    strict = verifier(auth_role_claim=claim, auth_roles=("editor", "viewer"))
    if role is None:
        with pytest.raises(InvalidTokenError):
            await strict.verify(hs256(claims(**given)))
    else:
        assert (await strict.verify(hs256(claims(**given)))).role == role


async def test_what_ayb_signs_between_password_and_second_factor_opens_nothing() -> None:
    """A token with mfa_pending is refused; one that says false is not."""
    await verifier().verify(hs256(claims(mfa_pending=False)))
    for value in (True, 1, "true", None):
        with pytest.raises(InvalidTokenError):
            await verifier().verify(hs256(claims(mfa_pending=value)))


@pytest.mark.parametrize(
    ("headers", "query", "token"),
    [
        ([], {}, None),
        ([], {"token": ""}, None),
        ([], {"token": "q"}, "q"),
        ([("Authorization", "Bearer h")], {}, "h"),
        ([("Authorization", "bearer  h ")], {"token": "q"}, "h"),
        ([("AUTHORIZATION", "BEARER h")], {"token": "q"}, "h"),
    ],
)
def test_the_header_wins_over_the_parameter(
    headers: list[tuple[str, str]], query: dict[str, str], token: str | None
) -> None:
    """The header Authorization wins over the parameter; with neither there is no token."""
    assert bearer_token(_headers(headers), query) == token


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["Bearer"],
        ["Bearer "],
        ["Basic dTpw"],
        ["h"],
        ["Bearer a b"],
        ["Bearer a", "Bearer b"],
    ],
)
def test_a_malformed_header_is_refused(values: list[str]) -> None:
    """A header that is not one bearer token is refused, even where the parameter is good."""
    with pytest.raises(InvalidTokenError):
        bearer_token(_headers([("authorization", value) for value in values]), {"token": "q"})


def _headers(pairs: list[tuple[str, str]]) -> Headers:
    return Headers(raw=[(name.lower().encode(), value.encode("latin-1")) for name, value in pairs])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
names = st.sampled_from(
    ["sub", "email", "tenantId", "exp", "nbf", "iss", "aud", "role", "mfa_pending", "x"]
)
times = st.sampled_from([4102444800, 4102444800.5, 0, -1, 1e18]) | st.floats() | st.integers()
payloads = st.dictionaries(names, json_values | times | st.text(st.characters(codec=None)))
headers_of_tokens = st.fixed_dictionaries(
    {"alg": st.sampled_from(["HS256", "RS256", "ES256", "none", "HS512", ""]) | json_values},
    optional=dict.fromkeys(("kid", "typ", "crit", "jwk", "jku", "x5u", "b64"), json_values),
)


@pytest.fixture(scope="module")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> TokenVerifier:
    """A verifier with a secret and a key set."""
    file: Path = tmp_path_factory.mktemp("keys") / "jwks.json"
    file.write_bytes(key_set(rsa_signer("r"), ec_signer("e")))
    return verifier(auth_jwks_file=file, auth_role_claim="role", auth_roles=("editor",))


def _verify(verifier: TokenVerifier, token: str) -> Claims | None:
    """Claims, or None where refused; any other error is a fault."""
    try:
        found = asyncio.run(verifier.verify(token))
    except InvalidTokenError:
        return None
    for setting in found.settings():
        assert "\x00" not in setting
        setting.encode()
    assert found.expires_at is not None
    assert time.time() < found.expires_at < 1e12
    assert found.role in {"ayb_authenticated", "editor"}
    assert isinstance(json.loads(found.payload), dict)
    return found


@given(token=st.text() | st.text("abcZ09-_.=+/ \n", max_size=40))
def test_any_text_is_refused(with_keys: TokenVerifier, token: str) -> None:
    """No text that nobody signed raises anything but the refusal."""
    assert _verify(with_keys, token) is None


@given(parts=st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_any_parts_are_refused(with_keys: TokenVerifier, parts: list[bytes]) -> None:
    """No parts in base64 that nobody signed raise anything but the refusal."""
    assert _verify(with_keys, ".".join(map(encode, parts))) is None


@given(header=headers_of_tokens, payload=payloads, signature=st.binary(max_size=80))
def test_any_header_is_refused_without_its_signature(
    with_keys: TokenVerifier, header: dict[str, Any], payload: Any, signature: bytes
) -> None:
    """Whatever the header says, a made-up signature is refused."""
    token = f"{encode(as_json(header))}.{encode(as_json(payload))}.{encode(signature)}"
    assert _verify(with_keys, token) is None


@given(payload=payloads | json_values | st.binary(max_size=60))
def test_any_signed_payload_is_refused_or_makes_good_settings(
    with_keys: TokenVerifier, payload: Any
) -> None:
    """Whatever a careless issuer signs is refused, or gives settings that Postgres can hold."""
    _verify(with_keys, hs256(payload))


@given(data=st.data())
def test_a_changed_token_never_says_anything_else(
    with_keys: TokenVerifier, data: st.DataObject
) -> None:
    """A token changed in one place is refused, or is the same token."""
    token = hs256({"sub": "x", "exp": 4102444800})
    at = data.draw(st.integers(0, len(token)))
    cut = data.draw(st.integers(0, 2))
    changed = token[:at] + data.draw(st.text("abcxyzAQ019-_.", max_size=2)) + token[at + cut :]
    assert _verify(with_keys, changed) in (None, _verify(with_keys, token))


@given(
    values=st.lists(st.text(st.characters(max_codepoint=255)), max_size=2),
    query=st.dictionaries(st.sampled_from(["token", "tables"]), st.text()),
)
def test_any_request_has_a_token_or_none_or_is_refused(
    values: list[str], query: dict[str, str]
) -> None:
    """No header raises anything but the refusal, and no token found is empty."""
    try:
        token = bearer_token(_headers([("authorization", value) for value in values]), query)
    except InvalidTokenError:
        assert values
    else:
        assert token is None or token


async def test_only_a_token_that_was_valid_has_expired() -> None:
    """A client learns that its token has expired if nothing else is wrong with it."""
    past = int(time.time()) - 10
    strict = verifier(auth_jwt_issuer="https://id", auth_role_claim="role", auth_roles=("editor",))
    good = {"iss": "https://id", "role": "editor", "exp": past}
    with pytest.raises(ExpiredTokenError):
        await strict.verify(hs256(claims(**good)))
    for wrong in (
        hs256(claims(**good), secret="another secret, of at least 32 characters"),
        hs256(claims(**{**good, "iss": "https://other"})),
        hs256(claims(**{**good, "role": "postgres"})),
        hs256(claims(**{**good, "sub": 1.5})),
        hs256(claims(**{**good, "exp": "1"})),
    ):
        with pytest.raises(InvalidTokenError) as caught:
            await strict.verify(wrong)
        assert not isinstance(caught.value, ExpiredTokenError)
