"""What strangers choose never stays in a gateway's memory."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING

import httpx
import psutil

if TYPE_CHECKING:
    from tests.support.stack import Stack

MIB = 1024 * 1024
REQUESTS = 6_000


async def test_unknown_tables_leave_nothing_behind(stack: Stack) -> None:
    """Thousands of requests for tables that do not exist do not grow the process."""
    token = stack.token()
    process = psutil.Process(stack.child("gateway").pid)
    names = (f"{number}_" + os.urandom(2_000).hex() for number in itertools.count())

    async def ask(count: int) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for name in itertools.islice(names, count):
                answer = await http.get(
                    f"{stack.gateway_url}/api/realtime?tables={name}",
                    headers={"Authorization": f"Bearer {token}"},
                )
                assert answer.status_code == 400

    await asyncio.gather(*(ask(100) for _ in range(8)))
    before = process.memory_info().rss
    await asyncio.gather(*(ask(REQUESTS // 8) for _ in range(8)))
    assert process.memory_info().rss - before < 12 * MIB
