"""Each algorithm of public keys, with keys of its own, and what passes for none of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from gateway.auth.public_key import PUBLIC_KEY_ALGORITHMS, read_public_key
from gateway.auth.verifier import TokenVerifier
from gateway.errors import InvalidTokenError
from tests.support.tokens import (
    Signer,
    as_json,
    claims,
    ec_signer,
    edwards_signer,
    encode,
    gateway_settings,
    hs256,
    key_set,
    rsa_signer,
)

if TYPE_CHECKING:
    from pathlib import Path

SIGNERS = {
    **{name: rsa_signer(name, 2048, name) for name in PUBLIC_KEY_ALGORITHMS if name[1] == "S"
       and name[0] in "RP"},
    "ES256": ec_signer("ES256"),
    "ES384": ec_signer("ES384", ec.SECP384R1),
    "ES512": ec_signer("ES512", ec.SECP521R1),
    "EdDSA": edwards_signer("EdDSA"),
    "EdDSA, Ed448": edwards_signer("Ed448", ed448.Ed448PrivateKey),
}  # fmt: skip


def verifier(folder: Path, *signers: Signer, **changes: object) -> TokenVerifier:
    file = folder / "jwks.json"
    file.write_bytes(key_set(*signers))
    return TokenVerifier(gateway_settings(auth_jwks_file=file, **changes).token_options)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> TokenVerifier:
    """A verifier that has a key of each kind, and the secret."""
    return verifier(tmp_path_factory.mktemp("keys"), *SIGNERS.values())


def test_there_is_a_key_for_each_algorithm() -> None:
    """So that what follows is about all of them."""
    assert {signer.algorithm for signer in SIGNERS.values()} == set(PUBLIC_KEY_ALGORITHMS)


@pytest.mark.parametrize("name", SIGNERS)
async def test_a_token_of_each_algorithm_is_accepted(everything: TokenVerifier, name: str) -> None:
    """By its kid, and without one, since the key is found by the algorithm."""
    for header in ({}, {"kid": ...}):
        token = SIGNERS[name].sign(claims(), **header)
        assert (await everything.verify(token)).email == "user@example.com"


@pytest.mark.parametrize("name", SIGNERS)
async def test_a_signature_counts_for_its_algorithm_only(
    everything: TokenVerifier, name: str
) -> None:
    """Whatever else the header says, with the kid of the key, of another key, or none."""
    signer = SIGNERS[name]
    others = [*PUBLIC_KEY_ALGORITHMS, "HS256", "HS384", "none", "Ed25519", "ES256K"]
    for algorithm in others:
        if algorithm == signer.algorithm:
            continue
        for kid in (signer.kid, algorithm, ...):
            with pytest.raises(InvalidTokenError):
                await everything.verify(signer.sign(claims(), alg=algorithm, kid=kid))


@pytest.mark.parametrize("name", SIGNERS)
async def test_a_changed_token_is_refused(everything: TokenVerifier, name: str) -> None:
    """Any byte of payload or signature counts; so does the length of a signature."""
    head, payload, signature = SIGNERS[name].sign(claims()).split(".")
    other = encode(as_json(claims(sub="other")))
    for token in (
        f"{head}.{other}.{signature}",
        f"{head}.{payload}.{signature[:-4]}",
        f"{head}.{payload}.{signature}AAAA",
        f"{head}.{payload}.{signature[4:]}{signature[:4]}",
        f"{head}.{payload}.{'A' * len(signature)}",
        f"{head}.{payload}.{SIGNERS[name].sign(claims(sub='x')).split('.')[2]}",
    ):
        with pytest.raises(InvalidTokenError):
            await everything.verify(token)


async def test_another_key_of_the_same_algorithm_signs_nothing(tmp_path: Path) -> None:
    """A stranger's key verifies no token, whichever kid it claims."""
    for name, signer in SIGNERS.items():
        strict = verifier(tmp_path, signer)
        key = signer.key
        stranger = Signer(
            rsa.generate_private_key(65537, 2048)
            if isinstance(key, rsa.RSAPrivateKey)
            else ec.generate_private_key(key.curve)
            if isinstance(key, ec.EllipticCurvePrivateKey)
            else ed448.Ed448PrivateKey.generate()
            if isinstance(key, ed448.Ed448PrivateKey)
            else ed25519.Ed25519PrivateKey.generate(),
            name,
            signer.algorithm,
        )
        with pytest.raises(InvalidTokenError):
            await strict.verify(stranger.sign(claims(), kid=signer.kid))


async def test_public_parameters_are_no_secret(tmp_path: Path) -> None:
    """An HMAC under any public key, in PEM or as parameters, is refused under every name."""
    for signer in SIGNERS.values():
        strict = verifier(tmp_path, signer)
        jwk = signer.jwk()
        for secret, algorithm in itertools.product(
            (signer.public_pem(), as_json(jwk), (jwk.get("n") or jwk["x"]).encode()),
            ("HS256", signer.algorithm),
        ):
            header = {"alg": algorithm, "kid": signer.kid}
            with pytest.raises(InvalidTokenError):
                await strict.verify(hs256(claims(), secret=secret, header=header))


async def test_the_salt_of_a_pss_signature_is_as_long_as_the_hash() -> None:
    """Another length, which RFC 7518 does not allow, is refused."""
    signer = SIGNERS["PS256"]
    found = read_public_key(signer.jwk())
    assert found is not None
    assert isinstance(signer.key, rsa.RSAPrivateKey)
    for length, is_good in ((32, True), (0, False), (20, False), (64, False)):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), length)
        signature = signer.key.sign(b"text", scheme, hashes.SHA256())
        assert found.key.verify(b"text", signature) is is_good


async def test_a_configured_list_leaves_the_others_out(tmp_path: Path) -> None:
    """The list of algorithms counts, whatever keys there are."""
    strict = verifier(tmp_path, *SIGNERS.values(), auth_jwt_algorithms=("EdDSA", "PS384"))
    for signer in SIGNERS.values():
        if signer.algorithm in ("EdDSA", "PS384"):
            await strict.verify(signer.sign(claims()))
        else:
            with pytest.raises(InvalidTokenError):
                await strict.verify(signer.sign(claims()))
