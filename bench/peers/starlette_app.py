"""FastAPI as a peer: `python -m bench.peers.starlette_app KIND PORT REDIS_URL`.

KIND is `streaming` (StreamingResponse over a generator) or `sse` (sse-starlette). Both are what
tutorials arrive at: one subscription to Redis for the process, and a queue for each client.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from redis.asyncio import Redis
from starlette.responses import Response  # noqa: TC002 (read by FastAPI)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


CHANNEL: Final = "bench"
_QUIET_SECONDS: Final = 3600
_MOST_WAITING: Final = 1_000

Queues = set[asyncio.Queue[str]]


def streaming(queue: asyncio.Queue[str], queues: Queues) -> Response:
    """Answer with Starlette's StreamingResponse; frames are built once, by the reader."""

    async def frames() -> AsyncIterator[str]:
        try:
            yield "event: connected\ndata: {}\n\n"
            while True:
                yield f"data: {await queue.get()}\n\n"
        finally:
            queues.discard(queue)

    return StreamingResponse(frames(), media_type="text/event-stream")


def sse(queue: asyncio.Queue[str], queues: Queues) -> Response:
    """Answer with sse-starlette's EventSourceResponse, without its pings."""
    from sse_starlette.sse import EventSourceResponse  # noqa: PLC0415 (it may not be installed)

    async def events() -> AsyncIterator[dict[str, str]]:
        try:
            yield {"event": "connected", "data": "{}"}
            while True:
                yield {"data": await queue.get()}
        finally:
            queues.discard(queue)

    return cast("Response", EventSourceResponse(events(), ping=_QUIET_SECONDS, sep="\n"))


ANSWERS: Final[dict[str, Callable[[asyncio.Queue[str], Queues], Response]]] = {
    "streaming": streaming,
    "sse": sse,
}


def application(kind: str, redis_url: str) -> FastAPI:
    """Make the application."""
    answer, queues = ANSWERS[kind], Queues()

    async def read(redis: Any) -> None:  # noqa: ANN401 (its pubsub has no types)
        async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(CHANNEL)
            async for message in pubsub.listen():
                for queue in queues:
                    queue.put_nowait(message["data"])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        redis = cast("Any", Redis.from_url(redis_url, decode_responses=True))
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(read(redis))
            yield
            reader.cancel()
        await redis.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/events", response_model=None)
    async def events() -> Response:
        queue: asyncio.Queue[str] = asyncio.Queue(_MOST_WAITING)
        queues.add(queue)
        return answer(queue, queues)

    return app


def main() -> None:
    """Serve until interrupted."""
    kind, port, redis_url = sys.argv[1:]
    uvicorn.run(
        application(kind, redis_url),
        host="127.0.0.1", port=int(port), log_level="warning", access_log=False, backlog=4096,
        timeout_graceful_shutdown=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
