"""Whether the relay's ticks arrive through Redis."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from shared import signature
from shared.change import decode_tick
from shared.channels import Channels
from shared.errors import BusMessageError
from shared.redis import UNAVAILABLE, close_client, describe, redis_client
from shared.redis_url import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS: Final = 3.5


async def check_ticks(
    url: str, history: str | None, *, prefix: str | None, key: bytes | None
) -> str:
    """Listen for ticks for a moment; `history` is None where no database could be asked."""
    name = f"Redis {name_of(url)}"
    client = redis_client(url)
    ticks: list[tuple[int, int]] = []
    dropped = ""
    try:
        async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await client.ping()
            if history is None:
                return f"{name}: warning: answers; its ticks cannot be told without a database"
            channel = Channels.of(history, prefix).tick
            await pubsub.subscribe(channel)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    async for message in pubsub.listen():
                        data = message["data"]
                        try:
                            if key is not None:
                                data = signature.verify(key, channel, data)
                            tick = decode_tick(data)
                        except BusMessageError as error:
                            dropped = str(error)
                        else:
                            ticks.append((tick.epoch, tick.batch))
    except UNAVAILABLE as error:
        return f"{name}: warning: {describe(error, url)}"
    finally:
        await close_client(client)
    return f"{name}: {_describe_ticks(ticks, dropped)}"


def _describe_ticks(ticks: Sequence[tuple[int, int]], dropped: str) -> str:
    if not ticks and dropped:
        return (
            f"warning: ticks arrive that are dropped: {dropped}: is AYB_REALTIME_BUS_KEY the same?"
        )
    if not ticks:
        return (
            f"warning: no tick in {_SECONDS} s: no relay leads, or it does not publish here "
            "(its AYB_REDIS_URL, AYB_REALTIME_CHANNEL_PREFIX)"
        )
    epochs = sorted({epoch for epoch, _ in ticks})
    if len(epochs) > 1:
        return f"warning: two relays send ticks, of epochs {epochs}: fence the old primary"
    return f"ok: ticks arrive, the last of batch {ticks[-1][1]}"
