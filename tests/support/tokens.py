"""Tokens as clients and attackers make them, and the keys they use."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway.settings import GatewaySettings

SECRET = "a secret that is long enough for everybody"
PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVE_NAMES = {
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
    "secp256k1": "secp256k1",
}
_ALGORITHM_OF_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

USER_ID = "6f0f5a4e-0c4f-4a52-8c56-0a2c4f5d8e11"


def gateway_settings(**changes: Any) -> GatewaySettings:
    """The minimal settings of a gateway, with changes."""
    given = {
        "database_url": "postgres://localhost/app",
        "redis_url": "redis://localhost",
        "auth_jwt_secret": SECRET,
    }
    return GatewaySettings(**{**given, **changes})


def claims(**changes: Any) -> dict[str, Any]:
    """Valid claims, with changes; a claim changed to `...` is left out."""
    good = {"sub": USER_ID, "email": "user@example.com", "exp": int(time.time()) + 600}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def as_json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def hs256(payload: Any, *, secret: str | bytes = SECRET, header: Any = None) -> str:
    """Sign with HMAC-SHA256, whatever the header says."""
    key = secret.encode() if isinstance(secret, str) else secret
    first = as_json({"alg": "HS256", "typ": "JWT"} if header is None else header)
    signing_input = f"{encode(first)}.{encode(as_json(payload))}"
    return (
        f"{signing_input}.{encode(hmac.new(key, signing_input.encode(), hashlib.sha256).digest())}"
    )


class Signer:
    """An issuer's key pair, RSA or on an elliptic curve; RSA keys sign as `algorithm` says."""

    def __init__(self, key: PrivateKey, kid: str | None, algorithm: str = "RS256") -> None:
        self.key = key
        self.kid = kid
        self.algorithm = (
            algorithm
            if isinstance(key, rsa.RSAPrivateKey)
            else _ALGORITHM_OF_CURVE.get(key.curve.name, "none")
            if isinstance(key, ec.EllipticCurvePrivateKey)
            else "EdDSA"
        )

    def sign(self, payload: Any, **header: Any) -> str:
        """Return a signed token; header fields can be changed, or left out with `...`."""
        full = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid or ..., **header}
        first = as_json({name: value for name, value in full.items() if value is not ...})
        signing_input = f"{encode(first)}.{encode(as_json(payload))}"
        return f"{signing_input}.{encode(self._signature(signing_input.encode()))}"

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key as a JSON Web Key."""
        public = self.key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            rsa_numbers = public.public_numbers()
            parameters = {"kty": "RSA", "n": number(rsa_numbers.n), "e": number(rsa_numbers.e)}
            if self.algorithm != "RS256":
                parameters["alg"] = self.algorithm
        elif isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            parameters = {
                "kty": "OKP",
                "crv": "Ed25519" if isinstance(public, ed25519.Ed25519PublicKey) else "Ed448",
                "x": encode(public.public_bytes_raw()),
            }
        else:
            ec_numbers = public.public_numbers()
            size = (public.curve.key_size + 7) // 8
            parameters = {
                "kty": "EC",
                "crv": _CURVE_NAMES[public.curve.name],
                "x": encode(ec_numbers.x.to_bytes(size, "big")),
                "y": encode(ec_numbers.y.to_bytes(size, "big")),
            }
        full = {**parameters, "kid": self.kid or ..., "use": "sig", **changes}
        return {name: value for name, value in full.items() if value is not ...}

    def public_pem(self) -> bytes:
        """The public key in PEM, as attackers use it for a secret."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def _signature(self, message: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
            return self.key.sign(message)
        digest = _HASHES[self.algorithm[2:]]
        if isinstance(self.key, rsa.RSAPrivateKey):
            scheme: padding.AsymmetricPadding = padding.PKCS1v15()
            if self.algorithm.startswith("PS"):
                scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return self.key.sign(message, scheme, digest)
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(digest)))
        size = (self.key.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def number(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@cache
def rsa_signer(kid: str | None, bits: int = 2048, algorithm: str = "RS256") -> Signer:
    """Return an RSA key pair, always the same for a name."""
    return Signer(rsa.generate_private_key(public_exponent=65537, key_size=bits), kid, algorithm)


@cache
def ec_signer(kid: str | None, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> Signer:
    """Return an elliptic-curve key pair, always the same for a name."""
    return Signer(ec.generate_private_key(curve()), kid)


@cache
def edwards_signer(
    kid: str | None,
    kind: type[ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey] = ed25519.Ed25519PrivateKey,
) -> Signer:
    """Return a key pair on an Edwards curve, always the same for a name."""
    return Signer(kind.generate(), kid)


def key_set(*members: Signer | dict[str, Any]) -> bytes:
    """A JSON Web Key Set."""
    return as_json({"keys": [m.jwk() if isinstance(m, Signer) else m for m in members]})
