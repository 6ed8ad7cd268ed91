"""The load client of the benchmarks: it counts what arrives, however it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.load.programs import LoadClient
from devstack.servers import free_port
from tests.support.listening import listening
from tests.support.requirements import Requirements

HEAD = b"HTTP/1.1 200 OK\r\n\r\nevent: connected\n\n"
MARKER = '"record":{"id":'


def frame(number: int) -> bytes:
    """An event."""
    return b'data: {"action":"create","record":{"id":%d,"title":"a \\"record\\""}}\n\n' % number


@asynccontextmanager
async def client_of(pieces: list[bytes]) -> AsyncIterator[tuple[LoadClient, list[bytes]]]:
    """A load client of a server that writes these pieces to each stream, one by one."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD)
        for piece in pieces:
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(piece)
        await reader.read()

    async with listening(serve) as port, LoadClient(port, marker=MARKER) as client:
        yield client, requests


@pytest.fixture(autouse=True)
def _compiler(require: Requirements) -> None:
    require.program("cc", package="gcc libc6-dev")


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_events_are_counted_and_summed_up(size: int) -> None:
    """Wherever the bytes are cut, each event counts once, and the numbers in them are added."""
    whole = b"".join(map(frame, (5, 12, 1_000_000)))
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    async with client_of(pieces) as (client, _):
        await client.open(3, "/")
        report = await client.expect(3, seconds=20)
        assert (report.streams, report.closed, report.markers) == (3, 0, 9)
        await asyncio.sleep(0.2)  # the last number follows its marker
        assert await client.sums() == [(3, 1_000_017)] * 3
        await client.forget()
        assert await client.sums() == [(0, 0)] * 3


@pytest.mark.parametrize("numbers", [(1, 2, 2), (1,)])
async def test_a_doubled_or_lost_event_is_an_error(numbers: tuple[int, ...]) -> None:
    """More or fewer events than expected raise, and name what arrived."""
    async with client_of([b"".join(map(frame, numbers))]) as (client, _):
        await client.open(1, "/")
        await asyncio.sleep(0.3)
        with pytest.raises(RuntimeError, match="each stream should have 2 events"):
            await client.expect(2, seconds=0.2)


async def test_a_token_for_each_stream() -> None:
    """Streams use the tokens in turn, and know their number."""
    async with client_of([]) as (client, requests):
        await client.use_tokens(["one", "two"])
        await client.open(3, "/%d", Authorization="Bearer %t")
        asked = sorted(
            (request.split()[1], request.rpartition(b"Bearer ")[2].strip()) for request in requests
        )
        assert asked == [(b"/0", b"one"), (b"/1", b"two"), (b"/2", b"one")]


async def test_a_refused_stream_is_an_error() -> None:
    """A server that is not there is named by an error."""
    async with LoadClient(free_port()) as client:
        with pytest.raises(RuntimeError, match="2 streams were to open"):
            await client.open(2, "/")
