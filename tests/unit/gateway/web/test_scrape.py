"""Writing the metrics out leaves the event loop to the streams."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.core import GaugeMetricFamily

from gateway.metrics import GatewayMetrics
from gateway.web.scrape import Scrape
from shared.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class Replaying(list[int]):
    """Two streams that are replayed to, one of them in the lane of a slow table."""

    slow = 1


class World:
    """A scrape of metrics whose tables are partly gone."""

    def __init__(self) -> None:
        self.metrics = GatewayMetrics()
        self.gone: set[str] = set()
        self.asked: list[set[str]] = []
        self.error: Exception | None = None
        self.now = 0.0
        parts: Any = SimpleNamespace(
            place=1, total=3, ring_bytes=7, held=None, is_pushing=True,
            ticks_are_late=False, streams=5, seconds=1.5, is_stale=False, rivals=None,
        )  # fmt: skip
        self.scrape = Scrape(
            pool=parts,
            metrics=self.metrics,
            limits=parts,
            replayer=Replaying([1, 2]),  # type: ignore[arg-type]
            hub=parts,
            backlog=parts,
            bus=parts,
            staleness=parts,
            find_gone=self.find_gone,
            clock=lambda: self.now,
        )

    async def find_gone(self, tables: Collection[str]) -> set[str]:
        self.asked.append(set(tables))
        if self.error is not None:
            raise self.error
        return self.gone

    async def text(self) -> str:
        return (await self.scrape.text()).decode()


@pytest.fixture
def world() -> World:
    return World()


async def test_the_loop_goes_on_while_series_are_written(world: World) -> None:
    """A slow collector ends only once the loop has run: on the loop, it would wait in vain."""
    begun, ended = threading.Event(), threading.Event()

    class Slow:
        def collect(self) -> Iterator[GaugeMetricFamily]:
            begun.set()
            yield GaugeMetricFamily("slow", "slow", value=float(ended.wait(10)))

    world.metrics.registry.register(Slow())
    begun.clear()
    ended.clear()
    scraping = asyncio.create_task(world.text())
    assert await asyncio.to_thread(begun.wait, 10)
    ended.set()
    assert "\nslow 1.0\n" in await scraping


async def test_gauges_are_read_when_scraped(world: World) -> None:
    """What others know is set at each scrape."""
    text = await world.text()
    for line in ("ayb_streams_open 3.0", "ayb_streams_replaying 2.0", "ayb_ring_bytes 7.0"):
        assert f"\n{line}\n" in text
    for state, streams in (("live", 5), ("replay", 1), ("slow", 1)):
        assert f'\nayb_streams{{state="{state}"}} {streams}.0\n' in text
    assert world.asked == [], "no table has series, so nobody is asked"


async def test_series_of_dropped_tables_go(world: World) -> None:
    """The catalogs are asked now and then which tables are gone."""
    world.metrics.visibility.differed("public.a", 1)
    world.metrics.visibility.differed("public.b", 1)
    world.gone = {"public.a"}
    text = await world.text()
    assert "public.a" not in text
    assert "public.b" in text
    await world.text()
    assert len(world.asked) == 1, "not at every scrape"
    world.now = 60.0
    await world.text()
    assert world.asked == [{"public.a", "public.b"}, {"public.b"}]


@pytest.mark.parametrize("error", [DatabaseUnavailableError(), TimeoutError()])
async def test_a_scrape_needs_no_database(world: World, error: Exception) -> None:
    """While the database is away, the metrics that say so are served."""
    world.metrics.visibility.differed("public.a", 1)
    world.error = error
    assert "public.a" in await world.text()
