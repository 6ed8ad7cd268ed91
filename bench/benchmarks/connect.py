"""Connects: what it costs a server to open a stream.

CPU time, user and system, of the server's process for each stream, from the connect until the first
bytes of the stream, in bursts of 250 that are closed again. Ours verifies a token, with a token of
its own for each client (HS256 and ES256) and with one token for all, as the tabs and reconnects of
a user have. The peers verify nothing. With AYB_BENCH_BEFORE=PATH the gateway of another checkout
takes its turns in the same run, as `before`.
"""

from __future__ import annotations

import asyncio
import itertools
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

from bench.load.programs import LoadClient
from bench.meters.process_cpu import cpu_seconds
from bench.reports.figure import OURS
from bench.reports.report import Report
from bench.servers.contenders import SCHEMA, peer_may_fail, peer_openers
from bench.servers.stack import SECRET, BenchStack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.size import Size

_KID: Final = "bench"
_WANTED_US: Final = 100
_CLOSE_SECONDS: Final = 0.3
_WARM_UP: Final = 2
"""Turns that fill pools and caches, and warm up the interpreter."""


@dataclass
class Connecting:
    """A server, and what its connects cost in each case, in microseconds."""

    name: str
    client: LoadClient
    pid: int
    path: str
    costs: dict[str, list[float]] = field(default_factory=dict)

    async def take_turn(self, case: str, streams: int, tokens: Sequence[str] = ()) -> None:
        """Open streams and close them; add the cost of each."""
        headers = {}
        if tokens:
            await self.client.use_tokens(tokens)
            headers["Authorization"] = "Bearer %t"
        before = cpu_seconds(self.pid)
        await self.client.open(streams, self.path, **headers)
        self.costs.setdefault(case, []).append((cpu_seconds(self.pid) - before) / streams * 1e6)
        await self.client.close_all()
        await asyncio.sleep(_CLOSE_SECONDS)


def run(size: Size) -> Report:
    """Measure, and return the report; fails if a stream does not open."""
    report = Report("connect")
    asyncio.run(_measure(report, size))
    report.checked = "Each stream was opened."
    return report


async def _measure(report: Report, size: Size) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    burst = size.pick(full=250, quick=250, smoke=10)
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="ayb-bench-")))
        gateways = [await _start(exits, OURS, Path(__file__).parents[2], folder, key)]
        if before := os.environ.get("AYB_BENCH_BEFORE"):
            gateways.append(await _start(exits, "before", Path(before), folder, key))
        peers = [
            Connecting(peer.name, peer.client, peer.pid, peer.path)
            for peer in [await opener(exits) for opener in peer_openers(report).values()]
        ]
        cases = _cases(key, burst)
        for turn in range(_WARM_UP + size.pick(full=20, quick=5, smoke=1)):
            for case, make in cases.items():
                tokens = make()
                for gateway in gateways if turn % 2 else gateways[::-1]:
                    await gateway.take_turn(case, burst, tokens)
            for peer in peers:
                with peer_may_fail(report, peer.name):
                    await peer.take_turn("", burst)
    figure = report.figure("connect", "Opening a stream", "µs of CPU a connect", peer="nchan")
    measured = {peer.name: peer.costs.get("", [])[_WARM_UP:] for peer in peers}
    of_peers = {name: costs for name, costs in measured.items() if costs}
    for case in cases:
        values = {gateway.name: gateway.costs[case][_WARM_UP:] for gateway in gateways} | of_peers
        added = report.add(figure, case, values)
        own = added.values[OURS].median
        report.expect(
            f"a connect, {case}",
            want=f"at most {_WANTED_US} µs",
            got=f"{own:.0f} µs",
            holds=own <= _WANTED_US,
        )


def _cases(key: ec.EllipticCurvePrivateKey, burst: int) -> dict[str, Callable[[], list[str]]]:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    numbers = itertools.count(1)

    def sign(algorithm: str, signer: str) -> str:
        claims = {"sub": f"user {next(numbers)}", "email": "user@example.com", "role": "user",
                  "exp": int(time.time()) + 3600}  # fmt: skip
        return str(jwt.encode(claims, signer, algorithm, headers={"kid": _KID}))

    shared = sign("HS256", SECRET)
    return {
        "HS256, a token each": lambda: [sign("HS256", SECRET) for _ in range(burst)],
        "HS256, one token": lambda: [shared],
        "ES256, a token each": lambda: [sign("ES256", pem) for _ in range(burst)],
    }


async def _start(
    exits: AsyncExitStack, name: str, source: Path, folder: Path, key: ec.EllipticCurvePrivateKey
) -> Connecting:
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
    client = await exits.enter_async_context(LoadClient(stack.port))
    return Connecting(name, client, stack.gateway_pid, "/api/realtime?tables=posts")
