"""A public key of an issuer, read from a JSON Web Key (RFC 7517), and the signatures it verifies.

A key is good for exactly one algorithm (RFC 7518, section 3; RFC 8037), and the key says which:

| `kty` | | algorithm |
|---|---|---|
| RSA | `alg`, or RS256 without one | RS256, RS384, RS512, PS256, PS384, PS512 |
| EC | `crv` P-256, P-384, P-521 | ES256, ES384, ES512 |
| OKP | `crv` Ed25519, Ed448 | EdDSA |

Only public parameters are read. A symmetric key that is published is no secret, so it is no key.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger(__name__)

_RSA_BITS: Final = range(2048, 8192 + 1)
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: Final[Mapping[str, tuple[str, ec.EllipticCurve]]] = {
    "P-256": ("ES256", ec.SECP256R1()),
    "P-384": ("ES384", ec.SECP384R1()),
    "P-521": ("ES512", ec.SECP521R1()),
}
_RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

PUBLIC_KEY_ALGORITHMS: Final = (*_RSA_ALGORITHMS, "ES256", "ES384", "ES512", "EdDSA")


class Key(Protocol):
    """Verifies signatures of one algorithm."""

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether the key made this signature over this message."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key with its name in the set, and the one algorithm that it is good for."""

    kid: str | None
    algorithm: str
    key: Key


def read_public_key(member: Any) -> PublicKey | None:  # noqa: ANN401 (any JSON)
    """Read a member of a key set; return None if it is no key that verifies signatures for us.

    Keys for other uses and algorithms are left out silently, broken and weak ones with a line in
    the log. Raises `MemoryError`, which is not the key's fault.
    """
    if not isinstance(member, dict) or not _may_verify(member):
        return None
    kid = member.get("kid")
    algorithm = _algorithm_of(member)
    if algorithm is None or not isinstance(kid, str | None):
        return None
    try:
        return PublicKey(kid, algorithm, _KINDS[member["kty"]](member, algorithm))
    except (ValueError, TypeError, KeyError, OverflowError, UnsupportedAlgorithm) as error:
        log.warning("key of the key set ignored", kid=kid, reason=str(error)[:100] or "malformed")
        return None


def _may_verify(member: Mapping[str, Any]) -> bool:
    operations = member.get("key_ops", ["verify"])
    return (
        member.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _algorithm_of(member: Mapping[str, Any]) -> str | None:
    """Return the algorithm of a key; None if it is not one of ours, or `alg` contradicts it."""
    kind, curve = member.get("kty"), member.get("crv")
    if kind == "RSA":
        algorithm = member.get("alg", "RS256")
        return algorithm if algorithm in _RSA_ALGORITHMS else None
    if kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        expected = _CURVES[curve][0]
    elif kind == "OKP" and curve in ("Ed25519", "Ed448"):
        expected = "EdDSA"
    else:
        return None
    return expected if member.get("alg", expected) == expected else None


class _RsaKey:
    def __init__(self, member: Mapping[str, Any], algorithm: str) -> None:
        numbers = rsa.RSAPublicNumbers(_integer(member, "e"), _integer(member, "n"))
        if numbers.n.bit_length() not in _RSA_BITS:
            raise ValueError(f"{numbers.n.bit_length()} bits")
        self._key = numbers.public_key()
        self._hash = _HASHES[algorithm[2:]]
        self._padding: padding.AsymmetricPadding = (
            # The salt is as long as the hash (RFC 7518, section 3.5).
            padding.PSS(padding.MGF1(self._hash), self._hash.digest_size)
            if algorithm.startswith("PS")
            else padding.PKCS1v15()
        )

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, message, self._padding, self._hash)
        except InvalidSignature:
            return False
        return True


class _EllipticCurveKey:
    def __init__(self, member: Mapping[str, Any], algorithm: str) -> None:
        curve = _CURVES[member["crv"]][1]
        # Raises for a point that is not on the curve.
        self._key = ec.EllipticCurvePublicNumbers(
            _integer(member, "x"), _integer(member, "y"), curve
        ).public_key()
        self._size = (curve.key_size + 7) // 8
        self._method = ec.ECDSA(_HASHES[algorithm[2:]])

    def verify(self, message: bytes, signature: bytes) -> bool:
        if len(signature) != 2 * self._size:  # RFC 7518, section 3.4
            return False
        r, s = (int.from_bytes(half) for half in (signature[: self._size], signature[self._size :]))
        try:
            self._key.verify(encode_dss_signature(r, s), message, self._method)
        except InvalidSignature:
            return False
        return True


class _EdwardsCurveKey:
    def __init__(self, member: Mapping[str, Any], _algorithm: str) -> None:
        kind: type[ed25519.Ed25519PublicKey | ed448.Ed448PublicKey] = (
            ed25519.Ed25519PublicKey if member["crv"] == "Ed25519" else ed448.Ed448PublicKey
        )
        self._key = kind.from_public_bytes(_bytes(member, "x"))

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


_KINDS: Final[Mapping[str, type[_RsaKey | _EllipticCurveKey | _EdwardsCurveKey]]] = {
    "RSA": _RsaKey,
    "EC": _EllipticCurveKey,
    "OKP": _EdwardsCurveKey,
}


def _bytes(member: Mapping[str, Any], name: str) -> bytes:
    text = member[name]
    if not isinstance(text, str) or _BASE64URL.fullmatch(text) is None:
        raise ValueError(f"{name} is not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _integer(member: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_bytes(member, name))
