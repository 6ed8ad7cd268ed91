"""Passwords against their argon2id hashes (RFC 9106), as AYB stores them.

A check takes 64 MiB and a good part of a second of a core, by design. So few run at a time, in
threads, and only a bounded number waits. If there is no user, or no hash that we can check, a dummy
hash is checked instead, so the time of the response does not reveal who has an account.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import Final

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.errors import TooManyTriesError

log = structlog.get_logger(__name__)

AT_A_TIME: Final = 2
MOST_WAITING: Final = 64


def _hash_of_nothing() -> str:
    """Make a hash with AYB's cost parameters that no password is known for."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32)
    )
    return f"$argon2id$v=19$m=65536,t=3,p=2${salt}${digest}"


class PasswordChecker:
    """Checks passwords, a few at a time."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._places = asyncio.Semaphore(AT_A_TIME)
        self._pending = 0
        self._nothing = _hash_of_nothing()

    async def is_right(self, password: str, stored: str | None) -> bool:
        """Check a password; `stored` is its hash, or None where there is no such user.

        Raises `TooManyTriesError` where too many wait already.
        """
        if self._pending >= AT_A_TIME + MOST_WAITING:
            raise TooManyTriesError
        self._pending += 1
        try:
            async with self._places:
                return await asyncio.to_thread(self._check, password, stored)
        finally:
            self._pending -= 1

    def _check(self, password: str, stored: str | None) -> bool:
        if stored is not None and not stored.startswith("$argon2id$"):
            log.warning("a password hash that is not argon2id; its user cannot log in here")
            stored = None
        try:
            self._hasher.verify(self._nothing if stored is None else stored, password)
        except (VerificationError, InvalidHashError):
            return False
        return stored is not None
