"""CASE 27: what is tried against every service that takes tokens."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from gateway.auth.issuer import TokenIssuer
from gateway.auth.verifier import TokenVerifier
from gateway.errors import InvalidTokenError
from tests.support.tokens import (
    SECRET,
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

RSA, EC = rsa_signer("r"), ec_signer("e")


@pytest.fixture
def verifier(tmp_path: Path) -> TokenVerifier:
    """A verifier that takes the secret's tokens and those of two public keys."""
    return TokenVerifier(
        gateway_settings(auth_jwks_file=_key_file(tmp_path, RSA, EC)).token_options
    )


def _key_file(folder: Path, *members: Any) -> Path:
    file = folder / "jwks.json"
    file.write_bytes(key_set(*members))
    return file


async def refused(verifier: TokenVerifier, token: str) -> str:
    """Insist on the refusal; returns the reason that was logged, which holds no part of it."""
    with capture_logs() as logs, pytest.raises(InvalidTokenError) as caught:
        await verifier.verify(token)
    assert caught.value.message == "invalid or expired token"
    written = json.dumps(logs, default=str)
    assert not any(part in written for part in [token, *token.split(".")] if len(part) > 8)
    assert [entry["event"] for entry in logs] == ["token refused"]
    return str(logs[0]["reason"])


async def test_the_good_ones_are_taken(verifier: TokenVerifier) -> None:
    """Each of the three ways to sign is accepted, so that the refusals below mean something."""
    for token in (
        hs256(claims()),
        RSA.sign(claims()),
        EC.sign(claims()),
        RSA.sign(claims(), kid=...),
    ):
        assert (await verifier.verify(token)).email == "user@example.com"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"], "HS256 "])
async def test_without_a_signature(verifier: TokenVerifier, name: Any) -> None:
    """`alg: none` in any spelling is refused, with a signature or without."""
    unsigned = f"{encode(as_json({'alg': name}))}.{encode(as_json(claims()))}"
    for token in (
        unsigned,
        unsigned + ".",
        unsigned + ".e30",
        hs256(claims(), header={"alg": name}),
    ):
        await refused(verifier, token)


async def test_the_public_key_as_a_secret(verifier: TokenVerifier, tmp_path: Path) -> None:
    """HS256 under any form of a public key is refused, with a secret configured and without."""
    asymmetric = TokenVerifier(
        gateway_settings(
            auth_jwt_secret=None, auth_jwks_file=_key_file(tmp_path, RSA, EC)
        ).token_options
    )
    for signer in (RSA, EC):
        public = signer.key.public_key()
        forms = [
            public.public_bytes(encoding, form)
            for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
            for form in (serialization.PublicFormat.SubjectPublicKeyInfo,)
        ]
        jwk = signer.jwk()
        forms += [forms[0].strip(), as_json(jwk), key_set(signer), b"", b"null"]
        forms += [base64.urlsafe_b64decode((jwk.get("n") or jwk["x"]) + "=="), str(jwk).encode()]
        for form in forms:
            for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": signer.kid}):
                token = hs256(claims(), secret=form or b"\x00", header=header)
                await refused(verifier, token)
                await refused(asymmetric, token)
            await refused(verifier, hs256(claims(), secret=form, header={"alg": signer.algorithm}))


async def test_the_secret_for_another_algorithm(verifier: TokenVerifier) -> None:
    """HS384 and HS512 with the right secret, and an HMAC called RS256, are refused."""
    from jose import jwt  # noqa: PLC0415 (the library under the product, as an attacker)

    for algorithm in ("HS384", "HS512"):
        assert "algorithm" in await refused(verifier, jwt.encode(claims(), SECRET, algorithm))
    await refused(verifier, hs256(claims(), header={"alg": "RS256"}))
    await refused(verifier, hs256(claims(), header={"alg": "ES256", "kid": "e"}))


async def test_an_algorithm_that_is_not_on_the_list(tmp_path: Path) -> None:
    """The configured list counts, even where there is a key for another algorithm."""
    strict = TokenVerifier(
        gateway_settings(
            auth_jwks_file=_key_file(tmp_path, RSA, EC), auth_jwt_algorithms=("ES256",)
        ).token_options
    )
    await strict.verify(EC.sign(claims()))
    await refused(strict, RSA.sign(claims()))
    await refused(strict, hs256(claims()))


async def test_a_key_that_the_token_brings_along(verifier: TokenVerifier) -> None:
    """Keys in or behind the header (jwk, jku, x5u, x5c) are ignored."""
    mallory = rsa_signer("mallory")
    for kid in ("mallory", "r", ...):
        extra = {
            "jwk": mallory.jwk(),
            "jku": "http://127.0.0.1:1/jwks",
            "x5u": "http://127.0.0.1:1/x5u",
            "x5c": ["MIIB"],
        }
        await refused(verifier, mallory.sign(claims(), kid=kid, **extra))
        assert (await verifier.verify(RSA.sign(claims(), **extra))).email


@pytest.mark.parametrize(
    "kid",
    ["", "../../../dev/null", "r' OR '1'='1", "r\x00", "x" * 4000, 0, True, None, [], {"r": 1}],
)
async def test_a_kid_that_means_mischief(verifier: TokenVerifier, kid: Any) -> None:
    """A kid is compared, never interpreted; one that is no string is refused."""
    token = rsa_signer("mallory").sign(claims(), kid=kid)
    await refused(verifier, token)


async def test_the_key_of_another_kind(verifier: TokenVerifier) -> None:
    """A kid of the RSA key with ES256, or the other way round, finds no key."""
    await refused(verifier, EC.sign(claims(), kid="r"))
    await refused(verifier, RSA.sign(claims(), kid="e"))
    await refused(verifier, RSA.sign(claims(), alg="ES256", kid="r"))


async def test_signatures_of_zeros(verifier: TokenVerifier) -> None:
    """An ECDSA signature of r = s = 0 (CVE-2022-21449), or an empty one, is refused."""
    head = f"{encode(as_json({'alg': 'ES256', 'kid': 'e'}))}.{encode(as_json(claims()))}"
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for signature in (bytes(64), bytes(1), order.to_bytes(32, "big") * 2, b"\x30\x06\x02\x01\x00"):
        await refused(verifier, f"{head}.{encode(signature)}")


async def test_a_der_signature_in_place_of_the_raw_one(verifier: TokenVerifier) -> None:
    """Only the form of RFC 7518 counts as an ES256 signature."""
    head = f"{encode(as_json({'alg': 'ES256', 'kid': 'e'}))}.{encode(as_json(claims()))}"
    assert isinstance(EC.key, ec.EllipticCurvePrivateKey)
    await refused(
        verifier, f"{head}.{encode(EC.key.sign(head.encode(), ec.ECDSA(hashes.SHA256())))}"
    )


async def test_another_payload_under_a_good_signature(verifier: TokenVerifier) -> None:
    """A payload or header exchanged after signing is refused."""
    for token in (hs256(claims()), RSA.sign(claims()), EC.sign(claims())):
        head, _payload, signature = token.split(".")
        await refused(
            verifier, f"{head}.{encode(as_json(claims(sub='somebody else')))}.{signature}"
        )


async def test_a_token_of_twenty_kilobytes(verifier: TokenVerifier) -> None:
    """Over 16 KiB a token is refused before it is read, however good; just below it is taken."""
    assert await refused(verifier, hs256(claims(pad="x" * 15_000))) == "too long"
    assert await refused(verifier, "x" * 20_000) == "too long"
    assert (await verifier.verify(hs256(claims(pad="x" * 11_900)))).user_id


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":"me","sub":"you","exp":4102444800}',
        b'{"sub":"me","exp":1,"exp":4102444800}',
        b'{"sub":"me","\\u0073ub":"you","exp":4102444800}',
        b'{"exp":4102444800,"a":{"b":1,"b":2}}',
        b'{"exp":4102444800,"a":NaN}',
        b'{"exp":4102444800,"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"exp":4102444800,"a":' + b"[" * 100 + b"]" * 100 + b"}",
        b'\xef\xbb\xbf{"exp":4102444800}',
        b'{"exp":4102444800}x',
        '{"exp":4102444800}'.encode("utf-16"),
        b'{"exp":4102444800,"sub":"\xff"}',
        b'["exp"]',
        b'"exp"',
        b"null",
        b"",
    ],
)
async def test_a_payload_with_two_meanings(verifier: TokenVerifier, payload: bytes) -> None:
    """What two parsers could read differently is refused, even with a good signature."""
    await refused(verifier, hs256(payload))


async def test_claims_may_be_nested(verifier: TokenVerifier) -> None:
    """A hundred levels are taken, the object itself being the first."""
    deep: Any = []
    for _ in range(98):
        deep = {"a": deep}
    assert (await verifier.verify(hs256(claims(deep=deep)))).user_id


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"HS256"}',
        b'{"alg":"HS256","crit":["exp"],"exp":1}',
        b'{"alg":"HS256","crit":[]}',
        b'{"alg":"HS256","b64":false,"crit":["b64"]}',
        b"[" * 8000,
        b"[]",
        b"",
    ],
)
async def test_a_header_that_asks_for_too_much(verifier: TokenVerifier, header: bytes) -> None:
    """Repeated members and extensions that must be understood are refused."""
    await refused(verifier, hs256(claims(), header=header))


async def test_other_forms_of_a_good_token(verifier: TokenVerifier) -> None:
    """Padding, blanks, line ends, the standard alphabet and other serialisations are refused."""
    good = hs256(claims(pad="~~~???>>>"))
    head, payload, signature = good.split(".")
    await verifier.verify(good)
    flattened = {"protected": head, "payload": payload, "signature": signature}
    for token in (
        good + "=",
        good + "\n",
        " " + good,
        f"{head}.{payload}=.{signature}",
        f"{good}.{signature}.{signature}",
        f"{head}.{payload}",
        good.translate(str.maketrans("-_", "+/")) + "+",
        json.dumps(flattened),
        good.replace("e", "\uff45", 1),
    ):
        await refused(verifier, token)


async def test_a_refresh_token_is_no_access_token(verifier: TokenVerifier) -> None:
    """A refresh token opens no stream."""
    await refused(verifier, TokenIssuer(SECRET).refresh_token("me", "hash"))


async def test_a_symmetric_key_in_a_published_set(tmp_path: Path) -> None:
    """A secret that a key set publishes verifies nothing."""
    published = {"kty": "oct", "kid": "o", "k": encode(b"known to everybody"), "alg": "HS256"}
    careless = TokenVerifier(
        gateway_settings(
            auth_jwt_secret=None, auth_jwks_file=_key_file(tmp_path, published, RSA)
        ).token_options
    )
    for algorithm in ("HS256", "RS256"):
        header = {"alg": algorithm, "kid": "o"}
        await refused(careless, hs256(claims(), secret=b"known to everybody", header=header))


async def test_expired(verifier: TokenVerifier) -> None:
    """A token whose time is over is refused like any other, by its reason in the log only."""
    assert await refused(verifier, hs256(claims(exp=1_700_000_000))) == "expired"
    assert "exp" in await refused(verifier, hs256(claims(exp=...)))
