"""Clients that come, go, vanish or take nothing, and what remains of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import secrets
import socket
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import redis.asyncio as redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.requirements import Requirements
    from tests.support.stack import Stack

VANISHED = 1_000
STUCK = 5
VISITS = 10_000
TABLES = """
    CREATE TABLE quiet (id bigint PRIMARY KEY);
    CREATE TABLE loud (id bigint PRIMARY KEY, body text);
    GRANT SELECT ON quiet, loud TO ayb_authenticated;
"""
TCP_REPAIR = 19
"""Of Linux' tcp.h: a socket that is closed in this state says nothing to its peer."""


def request(stack: Stack, tables: str, token: str) -> bytes:
    return (
        f"GET /api/realtime?tables={tables} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


def address(stack: Stack) -> tuple[str, int]:
    return "127.0.0.1", int(stack.gateway_url.rpartition(":")[2])


async def unread(stack: Stack, data: bytes, *, receive_bytes: int | None = None) -> socket.socket:
    """Open a socket that is never read from, and send some bytes."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await loop.sock_connect(sock, address(stack))
    await loop.sock_sendall(sock, data)
    return sock


async def metrics(stack: Stack) -> dict[str, float]:
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{stack.gateway_url}/metrics")).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


async def until_metric(stack: Stack, name: str, value: float, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            now = (await metrics(stack)).get(name, 0.0)
            if now == value:
                return
            await asyncio.sleep(0.1)


def may_vanish() -> bool:
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        return True
    return False


def served(process: psutil.Process, stack: Stack) -> list[Any]:
    """The gateway's sockets to clients."""
    port = address(stack)[1]
    return [
        connection
        for connection in process.net_connections()
        if connection.laddr.port == port and connection.status != psutil.CONN_LISTEN
    ]


async def test_peers_that_do_nothing_are_let_go(start_stack: Any, require: Requirements) -> None:
    """A thousand clients vanish without FIN, some never read, some never ask or never finish
    asking: all are released and counted, while another client gets everything (CASE 25).
    """
    require.that(may_vanish(), "closing a socket without FIN needs Linux and CAP_NET_ADMIN")
    stack: Stack = await start_stack(
        gateway={
            "AYB_REALTIME_MAX_PENDING_BYTES": "65536",
            "AYB_REALTIME_MAX_CONNECTIONS_PER_USER": "2000",
        }
    )
    await stack.create(TABLES, "quiet", "loud")
    process = psutil.Process(stack.child("gateway").pid)
    token = stack.token()
    async with stack.stream("loud", token=token) as healthy, contextlib.AsyncExitStack() as kept:
        await healthy.connected()
        await stack.sql("INSERT INTO loud VALUES (0)")
        await healthy.take(1)
        for part in (b"", b"GET /api", b"GET / HTTP/1.1\r\nX: "):
            kept.enter_context(await unread(stack, part))
        asked = request(stack, "loud", token)
        for _ in range(STUCK):
            kept.enter_context(await unread(stack, asked, receive_bytes=4096))
        await until_metric(stack, "ayb_streams_open", 1 + STUCK, 10)
        asked = request(stack, "quiet", token)
        vanishing = [await unread(stack, asked) for _ in range(VANISHED)]
        await until_metric(stack, "ayb_streams_open", 1 + STUCK + VANISHED, 30)
        for sock in vanishing:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            sock.close()
        for start in range(1, 101, 10):
            await stack.sql(
                "INSERT INTO loud SELECT g, repeat('x', 200000) "
                "FROM generate_series($1::int, $1::int + 9) g",
                start,
            )
        seen = [m.json()["record"]["id"] for m in await healthy.take(100, 60)]
        assert seen == list(range(1, 101))
        await until_metric(stack, "ayb_streams_open", 1, 90)
        async with asyncio.timeout(60):
            while len(served(process, stack)) > 1:  # noqa: ASYNC110 (another process does it)
                await asyncio.sleep(0.1)
        counted = await metrics(stack)
        assert counted['ayb_streams_closed_total{reason="gone"}'] == VANISHED
        assert counted['ayb_streams_closed_total{reason="stalled"}'] == STUCK
        await stack.sql("INSERT INTO loud VALUES (101)")
        assert (await healthy.next_message()).json()["record"]["id"] == 101


@contextlib.asynccontextmanager
async def writing(stack: Stack) -> AsyncIterator[None]:
    """Write rows continuously."""

    async def write() -> None:
        async with stack.database.connect() as connection:
            number = 0
            while True:
                number += 1
                await connection.execute("INSERT INTO loud VALUES ($1, 'x')", number)
                await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(write())
        yield
        task.cancel()


async def visit(stack: Stack, token: str, chance: random.Random) -> None:
    """Connect and leave at some stage of a request or a stream."""
    tables = chance.choice(("quiet", "loud", "quiet,loud", "nothing"))
    asked = request(stack, tables, token)
    stage = chance.randrange(6)
    reader, writer = await asyncio.open_connection(*address(stack))
    try:
        if stage == 0:
            writer.write(asked[: chance.randrange(len(asked))])
        else:
            writer.write(asked)
        if stage > 1:
            await reader.readline()
        if stage > 2:
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
        if stage > 3 and tables != "nothing":
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b"clientId")
        if stage == 5:
            writer.write(chance.randbytes(20))
            with contextlib.suppress(OSError):
                await writer.drain()
    except OSError:
        pass
    finally:
        if chance.random() < 0.5:
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_ten_thousand_visits_leave_nothing(start_stack: Any) -> None:
    """Ten thousand clients connect and leave at every stage, beyond a limit too, during events:
    memory, descriptors and subscriptions stay flat, and the limit still holds (CASE 25).
    """
    stack: Stack = await start_stack(
        gateway={
            "AYB_REALTIME_MAX_CONNECTIONS_PER_USER": "8",
            "AYB_REALTIME_RING_BYTES": "100000",  # soon full, or it would be what grows
        }
    )
    await stack.create(TABLES, "quiet", "loud")
    seed = secrets.randbelow(1_000_000)
    print(f"seed {seed}")
    token = stack.token()
    process = psutil.Process(stack.child("gateway").pid)
    server = redis.Redis.from_url(stack.valkey.url)
    curve: list[dict[str, float]] = []

    async def some(number: int) -> None:
        chance = random.Random(seed + number)
        for _ in range(VISITS // 100):
            await visit(stack, token, chance)

    async def gone() -> None:
        await until_metric(stack, "ayb_streams_open", 0, 20)
        async with asyncio.timeout(20):
            while await server.pubsub_channels("ayb:realtime:*:table:*"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async with writing(stack):
        for thousand in range(10):
            async with asyncio.TaskGroup() as group:
                for number in range(10):
                    group.create_task(some(10 * thousand + number))
            await gone()
            curve.append(
                {
                    "MiB": round(process.memory_info().rss / 2**20, 1),
                    "files": process.num_fds(),
                    "subscribed": len(await server.pubsub_channels("ayb:*")),
                }
            )
    print("after each thousand:", *curve, sep="\n")
    assert curve[-1]["MiB"] - curve[2]["MiB"] < 4
    assert curve[-1]["files"] <= curve[0]["files"] + 5
    # The gateway hears ticks, and the relay hears other relays.
    assert {point["subscribed"] for point in curve} == {2}
    await server.aclose()
    opened = [stack.stream("quiet", token=token) for _ in range(9)]
    first = [(await (await client.open()).next()).type for client in opened]
    assert first == ["connected"] * 8 + ["busy"]
    for client in opened:
        await client.close()


@pytest.fixture
def few_files() -> Iterator[int]:
    """Let this process and its children open few files, as a login shell does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_files_are_allowed_for_all_streams(few_files: int, start_stack: Any) -> None:
    """The gateway raises its limit of open files itself, and logs a warning if it may not."""
    for most in (3_000, few_files):
        if most == resource.RLIM_INFINITY:
            continue
        stack: Stack = await start_stack(gateway={"AYB_REALTIME_MAX_CONNECTIONS": str(most)})
        soft, hard = psutil.Process(stack.child("gateway").pid).rlimit(psutil.RLIMIT_NOFILE)
        wanted = most + 200
        is_short = hard != resource.RLIM_INFINITY and hard < wanted
        assert soft == (hard if is_short else wanted)
        assert ("fewer files may be open" in stack.log("gateway")) is is_short
        await stack.close()
