"""What an answer takes: bounded however many clients and images a question has."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path

import pytest

from gateway.visibility.engine import Visibility
from tests.integration.visibility.conftest import settings

CLIENTS, IMAGES = 20_000, 250
PEAK = Path("/proc/self/clear_refs")
"""Writing 5 to it makes the peak of now the highest one (Linux)."""


def mebibytes(what: str) -> int:
    """Read a figure of this process from the kernel."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    assert found is not None
    return int(found.group(1)) // 1024


@pytest.fixture
def rise(require):
    """How far this process has grown at its peak, in MiB, since the first of two calls."""
    require.that(PEAK.exists(), "no peak memory without /proc")
    before: list[int] = []

    def measure() -> int:
        if before:
            return mebibytes("VmHWM") - before[0]
        PEAK.write_text("5", encoding="ascii")
        before.append(mebibytes("VmRSS"))
        return 0

    return measure


async def test_many_clients_and_images(engine, rise):
    """20,000 different clients and 250 images, of which each sees a scattered half, in the loop.

    The joined form has `test_answer_memory.py`.
    """
    engine.visibility = Visibility(engine.pool, observer=engine.recorder, is_joining=False)
    await engine.admin.execute(
        """
        CREATE TABLE docs (id int PRIMARY KEY, body text);
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING (hashtext(current_setting('ayb.user_id') || id) % 2 = 0);
        """
    )
    await engine.admin.execute(
        f"INSERT INTO docs SELECT n, 'x' FROM generate_series(1, {IMAGES}) n"
    )
    images = await engine.images("docs")
    members = {n: settings(user=str(uuid.UUID(int=n))) for n in range(CLIENTS)}
    await engine.ask("docs", {0: members[0]}, images)
    rise()
    async with asyncio.timeout(120):
        seen = await engine.ask("docs", members, images)
    grown = rise()
    print("grown by", grown)
    assert not seen.answer.broken
    shown = sum(map(len, seen.answer.visible))
    assert CLIENTS * IMAGES * 0.45 < shown < CLIENTS * IMAGES * 0.55
    assert engine.recorder.plans[-1][1] == "looped"
    assert grown < 120
