"""Connects: what it costs the gateway to open a stream.

CPU time, user and system, of the gateway for each stream, from the connect until `connected`, with
a token of its own for each client (HS256 and ES256) and with one token for all, as the tabs and
reconnects of a user have. Streams are opened in bursts and closed again. With AYB_BENCH_BEFORE=PATH
the gateway of another checkout takes its turns in the same run, as `before`.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jose import jwk, jwt

from bench.contenders import SCHEMA
from bench.process_cpu import cpu_seconds
from bench.report import Report
from bench.stack import SECRET, BenchStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.size import Size

BURST: Final = 250
_KID: Final = "bench"

Tokens = list[str]


@dataclass
class Contender:
    """A gateway, and what its connects cost in each case, in microseconds."""

    name: str
    stack: BenchStack
    costs: dict[str, list[float]] = field(default_factory=dict)

    async def take_turn(self, case: str, tokens: Tokens) -> None:
        """Open a burst of streams and close them; add the cost of each."""
        before = cpu_seconds(self.stack.gateway_pid)
        clients = await asyncio.gather(*(_open(self.stack.port, token) for token in tokens))
        spent = cpu_seconds(self.stack.gateway_pid) - before
        for writer in clients:
            writer.transport.abort()
        await asyncio.sleep(0.2)
        self.costs.setdefault(case, []).append(spent / len(tokens) * 1e6)


def run(size: Size) -> Report:
    """Measure, and return the report."""
    report = Report("connect")
    asyncio.run(_measure(report, size))
    return report


async def _measure(report: Report, size: Size) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="ayb-bench-")))
        contenders = [await _start(exits, "ours", Path(__file__).parents[1], folder, key)]
        if before := os.environ.get("AYB_BENCH_BEFORE"):
            contenders.append(await _start(exits, "before", Path(before), folder, key))
        cases = _cases(key)
        for turn in range(size.pick(full=30, quick=6, smoke=3)):
            for case, make in cases.items():
                tokens = make()
                order = contenders if turn % 2 else contenders[::-1]
                for contender in order:
                    await contender.take_turn(case, tokens)
        figure = report.figure("connect", "Opening a stream", "µs of CPU a connect", peer="nchan")
        for case in cases:
            # The first turns warm up the pool, the caches and the interpreter.
            report.add(figure, case, {c.name: c.costs[case][2:] for c in contenders})


def _cases(key: ec.EllipticCurvePrivateKey) -> dict[str, Callable[[], Tokens]]:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    numbers = _counter()

    def sign(algorithm: str, signer: str) -> str:
        claims = {"sub": f"user {next(numbers)}", "email": "user@example.com", "role": "user",
                  "exp": int(time.time()) + 3600}  # fmt: skip
        return str(jwt.encode(claims, signer, algorithm, headers={"kid": _KID}))

    shared = sign("HS256", SECRET)
    return {
        "HS256, a token each": lambda: [sign("HS256", SECRET) for _ in range(BURST)],
        "HS256, one token": lambda: [shared] * BURST,
        "ES256, a token each": lambda: [sign("ES256", pem) for _ in range(BURST)],
    }


def _counter() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


async def _start(
    exits: AsyncExitStack, name: str, source: Path, folder: Path, key: ec.EllipticCurvePrivateKey
) -> Contender:
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    members = {k: str(v) for k, v in jwk.construct(public.decode(), "ES256").to_dict().items()}
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [{**members, "kid": _KID}]}), encoding="utf-8")
    stack = await exits.enter_async_context(
        BenchStack(
            SCHEMA,
            environment={
                "AYB_AUTH_JWKS_FILE": str(keys),
                "AYB_REALTIME_HEARTBEAT_SECONDS": "3600",
                "AYB_LOG_LEVEL": "warning",
            },
            source=source,
        )
    )
    return Contender(name, stack)


async def _open(port: int, token: str) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /api/realtime?tables=posts HTTP/1.1\r\nHost: localhost\r\n"
        b"Accept: text/event-stream\r\nUser-Agent: bench\r\nAuthorization: Bearer "
        + token.encode()
        + b"\r\n\r\n"
    )
    head = await reader.readuntil(b"event: connected")
    if b" 200 OK" not in head:
        raise RuntimeError(f"no stream: {head[:200]!r}")
    return writer
