"""AYB's API keys, which services use instead of tokens.

A key is `ayb_` followed by hexadecimal digits. AYB stores only its SHA-256, and so does this
gateway: the key is hashed as it arrives, and neither kept nor logged. The row of `_ayb_api_keys`
with this hash, joined to its user in `_ayb_users`, takes the place of a token's claims.

Simultaneous lookups share one query. Each answer, including that there is no such key, is kept for
a few seconds, within a bound in bytes. A network that presents many unknown keys must wait. If the
database cannot be reached, nothing is known about a key, and requests are refused as unavailable.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.auth.ayb_tables import missing_tables
from gateway.auth.jws import TokenExpiredError, TokenRefusedError
from gateway.auth.throttle import Buckets
from gateway.client_network import network_of
from gateway.errors import (
    ExpiredTokenError,
    InvalidTokenError,
    NotConfiguredError,
    TooManyTriesError,
)
from shared.postgres import unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import asyncpg

    from gateway.auth.claim_mapping import ClaimMapping
    from gateway.auth.claims import Claims

log = structlog.get_logger(__name__)

FRESH_SECONDS: Final = 5.0
MOST_KEPT_BYTES: Final = 4 * 1024 * 1024
WAIT_SECONDS: Final = 5.0
READING_SCOPES: Final = frozenset(("", "*", "readonly", "readwrite"))
"""The scopes of AYB that may read; the empty one is that of versions without scopes."""

_KEY = re.compile(r"ayb_[0-9a-f]{32,128}", re.ASCII)
_MOST_TOGETHER: Final = 500
_ENTRY_BYTES: Final = 600
"""Roughly what an answer takes besides its texts."""

_SQL: Final = queries("gateway.auth")

_REMEDY: Final = (
    "AYB_AUTH_API_KEYS needs SELECT on AYB's tables _ayb_api_keys and _ayb_users,"
    " granted to the gateway's login: see `python -m gateway doctor`"
)


def is_api_key(token: str) -> bool:
    """Whether a token looks like an API key; a JWT never begins like one."""
    return token.startswith("ayb_")


def key_throttle() -> Buckets:
    """Let a network present 300 unknown keys at once, and ten a second."""
    return Buckets(300, 0.1)


class ApiKeys:
    """Verifies API keys."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        mapping: ClaimMapping,
        *,
        throttle: Buckets,
        fresh_seconds: float = FRESH_SECONDS,
        most_kept_bytes: int = MOST_KEPT_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._mapping = mapping
        self._throttle = throttle
        self._clock = clock
        self._recent = _RecentAnswers(fresh_seconds, most_kept_bytes)
        self._wanted: dict[str, None] = {}
        self._asking = asyncio.Lock()

    @property
    def kept_bytes(self) -> int:
        """Roughly how many bytes the kept answers take."""
        return self._recent.bytes

    async def verify(self, key: str, address: str = "") -> Claims:
        """Verify a key that came from an address.

        Raises `InvalidTokenError`, or `ExpiredTokenError` if the key has expired; neither says
        more, but the log does. Also raises `TooManyTriesError`, `DatabaseUnavailableError`, and
        `NotConfiguredError` if tables or grants are missing.
        """
        try:
            if _KEY.fullmatch(key) is None:
                raise TokenRefusedError("not an API key")  # noqa: TRY301 (all refusals are logged)
            with unavailable_as_ours():
                # The wait for earlier lookups counts too.
                async with asyncio.timeout(WAIT_SECONDS):
                    answer = await self._find(_digest(key), network_of(address))
            return self._checked(answer)
        except TokenRefusedError as error:
            log.info("API key refused", reason=str(error))
            raise (
                ExpiredTokenError() if isinstance(error, TokenExpiredError) else InvalidTokenError()
            ) from None

    async def current(self, digests: Collection[str]) -> dict[str, Claims]:
        """Return the claims of the keys among these that are valid now, by digest.

        Raises as `verify` does, except for refusals.
        """
        found = {}
        wanted = list(digests)
        for start in range(0, len(wanted), _MOST_TOGETHER):
            answers = await self._ask(wanted[start : start + _MOST_TOGETHER])
            for digest, answer in answers.items():
                try:
                    found[digest] = self._checked(answer)
                except TokenRefusedError:
                    continue
        return found

    def _checked(self, answer: Claims | str) -> Claims:
        if isinstance(answer, str):
            raise TokenRefusedError(answer)
        if answer.expires_at is not None and answer.expires_at <= self._clock():
            raise TokenExpiredError("expired")
        return answer

    async def _find(self, digest: str, network: str) -> Claims | str:
        """Return the claims of a key, or why it is refused."""
        known = self._recent.get(digest)
        if known is not None:
            return known
        wait_seconds = self._throttle.wait_seconds(network, time.monotonic())
        if wait_seconds > 0:
            raise TooManyTriesError(retry_seconds=math.ceil(wait_seconds))
        self._wanted[digest] = None
        async with self._asking:  # the first asks for all that have come meanwhile
            known = self._recent.get(digest)
            if known is None:
                self._wanted.pop(digest, None)
                together = [digest, *list(self._wanted)[: _MOST_TOGETHER - 1]]
                for other in together:
                    self._wanted.pop(other, None)
                answers = await self._ask(together)
                for other, answer in answers.items():
                    self._recent.keep(other, answer)
                known = answers[digest]
        if isinstance(known, str):
            self._throttle.take(network, time.monotonic())
        return known

    async def _ask(self, digests: list[str]) -> dict[str, Claims | str]:
        with missing_tables(NotConfiguredError, _REMEDY), unavailable_as_ours():
            rows = await self._pool.fetch(_SQL["api_keys"], digests)
        answers: dict[str, Claims | str] = dict.fromkeys(digests, "unknown key")
        for row in rows:
            answers[row["key_hash"]] = self._answer(row)
        return answers

    def _answer(self, row: Mapping[str, Any]) -> Claims | str:
        if row["is_revoked"]:
            return "revoked"
        if row["is_malformed"]:
            return "its allowed_tables are no list"
        if row["scope"] not in READING_SCOPES:
            return "its scope does not include reading"
        claims = {"sub": row["user_id"], "email": row["email"]}
        if row["scope"]:
            claims["apiKeyScope"] = row["scope"]
        if row["allowed_tables"]:
            claims["allowedTables"] = row["allowed_tables"]
        try:
            return self._mapping.read(
                claims,
                json.dumps(claims, ensure_ascii=False, separators=(",", ":")),
                expires_at=row["expires_at"],
                key_digest=row["key_hash"],
                allowed_tables=frozenset(row["allowed_tables"]),
            )
        except TokenRefusedError as error:
            return str(error)


class _RecentAnswers:
    """Answers of the last seconds, within a bound in bytes."""

    def __init__(self, fresh_seconds: float, most_bytes: int) -> None:
        self._fresh_seconds = fresh_seconds
        self._most_bytes = most_bytes
        self.bytes = 0
        self._answers: OrderedDict[str, tuple[float, int, Claims | str]] = OrderedDict()

    def get(self, digest: str) -> Claims | str | None:
        kept = self._answers.get(digest)
        if kept is None or time.monotonic() - kept[0] >= self._fresh_seconds:
            return None
        return kept[2]

    def keep(self, digest: str, answer: Claims | str) -> None:
        size = _ENTRY_BYTES
        if not isinstance(answer, str):
            # The texts are in the payload, in the settings, and in the set of tables.
            size += 3 * len(answer.payload.encode())
        self.bytes -= self._answers.pop(digest, (0.0, 0, ""))[1]
        self._answers[digest] = time.monotonic(), size, answer
        self.bytes += size
        while self.bytes > self._most_bytes:
            self.bytes -= self._answers.popitem(last=False)[1][1]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("ascii")).hexdigest()
