from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.jwks import parse_key_set
from gateway.auth.jwks_source import KeySetError
from gateway.auth.public_key import PUBLIC_KEY_ALGORITHMS
from tests.support.tokens import as_json, ec_signer, edwards_signer, key_set, number, rsa_signer

RSA, OTHER, EC = rsa_signer("r"), rsa_signer("o"), ec_signer("e")


def test_keys_are_found_by_algorithm_and_kid() -> None:
    """A kid finds its key, for that key's algorithm only; without a kid all of the algorithm do."""
    keys = parse_key_set(key_set(RSA, OTHER, EC, rsa_signer(None).jwk()))
    assert len(keys.find("RS256", "r")) == 1
    assert len(keys.find("RS256", None)) == 3
    assert len(keys.find("ES256", "e")) == 1
    for algorithm, kid in (("ES256", "r"), ("RS256", "e"), ("RS256", ""), ("HS256", None)):
        assert keys.find(algorithm, kid) == ()


@pytest.mark.parametrize(
    "member",
    [
        {"kty": "oct", "kid": "x", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": "AAAA"},
        {"kty": "OKP", "crv": "X25519", "kid": "x", "x": "A" * 43},
        {"kty": "OKP", "crv": ["Ed25519"], "kid": "x", "x": "A" * 43},
        {"kty": "EC", "crv": "Ed25519", "kid": "x", "x": "A" * 43},
        edwards_signer("x").jwk(alg="ES256"),
        edwards_signer("x").jwk(crv="Ed448"),
        ec_signer("x", ec.SECP256K1).jwk(),
        ec_signer("x", ec.SECP384R1).jwk(crv="P-256"),
        ec_signer("x", ec.SECP384R1).jwk(alg="ES256"),
        EC.jwk(kid="x", alg="ES384"),
        EC.jwk(kid="x", alg="EdDSA"),
        rsa_signer("x", 1024).jwk(),
        RSA.jwk(kid="x", use="enc"),
        RSA.jwk(kid="x", alg="RSA-OAEP"),
        RSA.jwk(kid="x", alg="ES256"),
        RSA.jwk(kid="x", alg=["RS256"]),
        RSA.jwk(kid="x", alg=None),
        RSA.jwk(kid="x", n="AQAB=="),
        RSA.jwk(kid="x", alg="HS256"),
        RSA.jwk(kid="x", key_ops=["encrypt"]),
        RSA.jwk(kid="x", key_ops="verify"),
        RSA.jwk(kid=7),
        RSA.jwk(kid="x", n=...),
        RSA.jwk(kid="x", n="é"),
        RSA.jwk(kid="x", n=7),
        RSA.jwk(kid="x", n="AA"),
        RSA.jwk(kid="x", n=number(1 << 9000 | 1)),
        RSA.jwk(kid="x", e="AQ"),
        EC.jwk(kid="x", x="AAAA"),
        EC.jwk(kid="x", y=...),
        EC.jwk(kid="x", crv="P-256K"),
        EC.jwk(kid="x", crv=["P-256"]),
        {"kty": ["RSA"], "kid": "x"},
        {},
        None,
        7,
        "x",
    ],
)
def test_what_is_no_key_for_us_is_left_out(member: Any) -> None:
    """Other kinds, uses and algorithms, weak and broken keys are left out; the others stay."""
    keys = parse_key_set(key_set(member, RSA))
    assert [key.kid for key in keys.keys] == ["r"]
    with pytest.raises(KeySetError):
        parse_key_set(key_set(member))


def test_a_private_key_in_a_set_counts_as_its_public_half() -> None:
    """A private key that is published by mistake is not kept by the gateway."""
    [known] = parse_key_set(key_set(RSA.jwk(d="AQAB", p="AQ", q="AQ"))).keys
    held = [value for value in vars(known.key).values() if hasattr(value, "public_numbers")]
    assert [value.public_numbers() for value in held] == [RSA.key.public_key().public_numbers()]
    assert not any(hasattr(value, "private_numbers") for value in held)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b"<html>",
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_set_is_refused(text: bytes) -> None:
    """A text that is no key set, or has no key for us, is refused."""
    with pytest.raises(KeySetError):
        parse_key_set(text)


def test_a_set_is_bounded() -> None:
    """A set of very many keys is refused."""
    with pytest.raises(KeySetError):
        parse_key_set(key_set(*[RSA.jwk(kid=str(number)) for number in range(65)]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(
    base=st.sampled_from([RSA.jwk(), EC.jwk(), edwards_signer("d").jwk(), {}]),
    changes=st.dictionaries(
        st.sampled_from(["kty", "kid", "use", "alg", "key_ops", "n", "e", "crv", "x", "y"]),
        json_values
        | st.sampled_from(["RSA", "EC", "P-256", "P-384", "RS256", "OKP", "EdDSA", "AQAB"]),
        max_size=3,
    ),
)
def test_any_key_is_taken_or_left_out(base: dict[str, Any], changes: dict[str, Any]) -> None:
    """Whatever a set says of a key, nothing but KeySetError comes of it."""
    try:
        keys = parse_key_set(as_json({"keys": [{**base, **changes}]}))
    except KeySetError:
        return
    assert all(key.algorithm in PUBLIC_KEY_ALGORITHMS for key in keys.keys)


def test_memory_that_runs_out_leaves_no_key_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory, the set counts as unreadable, so that the keys known before stay in force."""

    def read(_: object) -> object:
        raise MemoryError

    monkeypatch.setattr("gateway.auth.jwks.read_public_key", read)
    with pytest.raises(KeySetError):
        parse_key_set(key_set(RSA))
