"""A message through each Redis."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

from relay.doctor.finding import Finding, fail, ok
from shared.channels import ROOT
from shared.logging import redact
from shared.redis import UNAVAILABLE, close_client, describe, redis_client

_ANSWER_SECONDS: Final = 5.0


async def check_redis(url: str) -> Finding:
    """Publish a message to a channel and wait for it."""
    shown = redact(url)
    client = redis_client(url)
    channel = f"{ROOT}:doctor:{secrets.token_hex(8)}"
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            await client.publish(channel, b"test")
            async for message in pubsub.listen():
                if message["type"] == "message":
                    break
    except UNAVAILABLE as error:
        return fail(
            f"Redis {shown}: {describe(error, url)}",
            "check AYB_REDIS_URL, that the server runs, and the ACL: its user needs publish and "
            f"subscribe on channels {ROOT}:*",
        )
    finally:
        await close_client(client)
    return ok(f"Redis {shown} passes messages on ({(time.perf_counter() - began) * 1000:.0f} ms)")
