"""Waits for states that the processes report themselves."""

from __future__ import annotations

import asyncio

import httpx

from tests.support.stack import Stack

_SECONDS = 30.0


async def gateway_says(stack: Stack, word: str, *, part: str, gateway: str = "gateway") -> None:
    """Wait until a gateway's readiness reports this for a part."""
    answer = None
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            async with asyncio.timeout(_SECONDS):
                while True:
                    response = await http.get(f"{stack.url(gateway)}/readyz")
                    answer = response.json()
                    if word in str(_find(answer, part)):
                        return
                    await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(
            f"{gateway} never answered {word!r} for {part}, but {answer}"
        ) from None


async def leads(url: str) -> None:
    """Wait until this relay is the leader."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http, asyncio.timeout(_SECONDS):
        while True:
            if "ayb_relay_leading 1.0" in (await http.get(f"{url}/metrics")).text:
                return
            await asyncio.sleep(0.05)


def _find(answer: object, part: str) -> object:
    if isinstance(answer, dict):
        for name, value in answer.items():
            if name == part:
                return value
            if (found := _find(value, part)) is not None:
                return found
    return None
