from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gateway.auth.claims import Claims
from gateway.auth.jws import MOST_LEVELS, TokenRefusedError, parse_object
from gateway.auth.verified_tokens import VerifiedTokens
from gateway.auth.verifier import TokenVerifier
from gateway.errors import ExpiredTokenError, InvalidTokenError
from tests.support.tokens import claims, ec_signer, gateway_settings, hs256, key_set

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000.0
OLD, NEW = ec_signer("old"), ec_signer("new")


def said(payload: str = "{}") -> Claims:
    return Claims("u", "", "", payload, "r", NOW + 60)


def test_a_token_is_known_under_its_keys_only() -> None:
    """Other tokens, and the same one under other keys, are not known; nothing of it is kept."""
    tokens = VerifiedTokens()
    first, second = object(), object()
    assert tokens.get("t", first) is None
    tokens.keep("t", first, said())
    assert tokens.get("t", first) == said()
    assert tokens.get("T", first) is None
    assert tokens.get("t" + "\udc80", first) is None
    assert tokens.get("t", second) is None
    assert (len(tokens), tokens.bytes) == (0, 0)
    assert tokens.get("t", first) is None
    tokens.keep("x", first, said())
    tokens.keep("y", second, said())
    assert tokens.get("x", second) is None
    assert tokens.get("y", second) == said()
    assert all(len(key) == 32 for key in tokens._kept)


def test_what_is_kept_is_bounded_in_bytes() -> None:
    """Those used the longest ago make way; one larger than the bound is not kept."""
    tokens = VerifiedTokens(5_000)
    keys = object()
    for n in range(100):
        tokens.keep(str(n), keys, said())
        assert tokens.get("0", keys) is not None
        assert 0 < tokens.bytes <= 5_000
    assert len(tokens) == 7
    assert tokens.get("99", keys) is not None
    assert tokens.get("50", keys) is None
    for _ in range(3):
        tokens.keep("0", keys, said())
    assert tokens.bytes <= 5_000
    tokens.keep("big", keys, said("x" * 10_000))
    assert (len(tokens), tokens.bytes) == (0, 0)


async def test_a_known_token_expires_to_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its signature is verified once, and its exp each time."""
    now = NOW
    verifier = TokenVerifier(gateway_settings().token_options, clock=lambda: now)
    token = hs256(claims(exp=NOW + 60))
    first = await verifier.verify(token)
    monkeypatch.setattr("gateway.auth.verifier.parse_token", _never)
    assert await verifier.verify(token) is first
    now = NOW + 59.9
    assert await verifier.verify(token) is first
    now = NOW + 60
    with pytest.raises(ExpiredTokenError):
        await verifier.verify(token)


async def test_a_refusal_is_not_kept() -> None:
    """A token that is not valid yet is valid later; one with a wrong signature never."""
    now = NOW
    verifier = TokenVerifier(gateway_settings().token_options, clock=lambda: now)
    early = hs256(claims(exp=NOW + 600, nbf=NOW + 60))
    good = hs256(claims(exp=NOW + 600))
    await verifier.verify(good)
    for token in (early, good[:-4] + "AAAA", good + "A", good.upper()):
        for _ in range(2):
            with pytest.raises(InvalidTokenError):
                await verifier.verify(token)
    now = NOW + 60
    assert await verifier.verify(early)


async def test_a_key_that_is_withdrawn_verifies_nothing_more(tmp_path: Path) -> None:
    """A token that was known is refused once its key has left the set; others are verified again.

    A set that is read again unchanged voids nothing.
    """
    file = tmp_path / "jwks.json"
    file.write_bytes(key_set(OLD, NEW))
    verifier = TokenVerifier(gateway_settings(auth_jwks_file=file).token_options)
    old, new, secret = OLD.sign(claims()), NEW.sign(claims()), hs256(claims())
    running = asyncio.create_task(verifier.run())
    try:
        known = [await verifier.verify(token) for token in (old, new, secret)]
        await _read_again(verifier, file, key_set(OLD, NEW))
        assert all(
            [await verifier.verify(token) is seen
             for token, seen in zip((old, new, secret), known, strict=True)]
        )  # fmt: skip
        await _read_again(verifier, file, key_set(NEW))
        with pytest.raises(InvalidTokenError):
            await verifier.verify(old)
        assert await verifier.verify(new)
        assert await verifier.verify(secret)
        await _read_again(verifier, file, b"broken")
        assert await verifier.verify(new)
        await _read_again(verifier, file, key_set(OLD))
        assert await verifier.verify(old)
        with pytest.raises(InvalidTokenError):
            await verifier.verify(new)
    finally:
        running.cancel()


async def _read_again(verifier: TokenVerifier, file: Path, text: bytes) -> None:
    file.write_bytes(text)  # noqa: ASYNC240 (a small file of the test)
    assert verifier._key_set is not None
    await verifier._key_set._read()


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("[" * (MOST_LEVELS - 1) + "]" * (MOST_LEVELS - 1), True),
        ("[" * MOST_LEVELS + "]" * MOST_LEVELS, False),
        ("[" + "[]," * 500 + "[]]", True),
        ('"' + "[{" * 500 + '"', True),
        ('["' + "[{" * 500 + '"]', True),
    ],
)
def test_brackets_are_counted_before_levels(text: str, is_read: bool) -> None:
    """Many brackets beside each other, or in strings, are no levels."""
    whole = f'{{"a":{text}}}'.encode()
    if is_read:
        assert parse_object(whole)
    else:
        with pytest.raises(TokenRefusedError, match="nested"):
            parse_object(whole)


def _never(_: Any) -> Any:
    raise AssertionError("a known token was taken apart again")
