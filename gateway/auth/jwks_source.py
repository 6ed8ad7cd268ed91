"""Where the text of a key set is read from: a file or a URL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httpx

from shared.errors import AybError

if TYPE_CHECKING:
    from pathlib import Path

FETCH_SECONDS: Final = 5.0
_MOST_BYTES: Final = 256 * 1024


class KeySetError(AybError):
    """A key set cannot be used; says why."""


class KeyFile:
    """A key set in a file, perhaps mounted and replaced by others."""

    refresh_seconds = 5.0
    spare_seconds = 0.5

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def read_now(self) -> bytes:
        """Read the file; raises `KeySetError`."""
        try:
            with self._path.open("rb") as file:
                return _bounded(file.read(_MOST_BYTES + 1))
        except OSError as error:
            raise KeySetError(error.strerror or type(error).__name__) from None

    async def read(self) -> bytes:
        """Read the file in a thread; raises `KeySetError`."""
        return await asyncio.to_thread(self.read_now)

    async def close(self) -> None:
        """Nothing is held."""


class KeyUrl:
    """A key set at an address; redirects are not followed."""

    refresh_seconds = 300.0
    spare_seconds = 10.0

    def __init__(self, url: str) -> None:
        self.name = url
        self._client = httpx.AsyncClient(
            timeout=FETCH_SECONDS,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def read(self) -> bytes:
        """Fetch the set; raises `KeySetError`."""
        try:
            async with (
                asyncio.timeout(FETCH_SECONDS),
                self._client.stream("GET", self.name) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise KeySetError(f"status {response.status_code}")
                text = b""
                async for part in response.aiter_raw():
                    text = _bounded(text + part)
                return text
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise KeySetError(type(error).__name__) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _bounded(text: bytes) -> bytes:
    if len(text) > _MOST_BYTES:
        raise KeySetError(f"larger than {_MOST_BYTES} bytes")
    return text
