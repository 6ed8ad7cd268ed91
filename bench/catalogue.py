"""The benchmarks there are, and about how long each takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bench.size import Size


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module `bench.benchmarks.NAME`; seconds are those of a machine with two idle cores."""

    name: str
    title: str
    full_seconds: int
    quick_seconds: int
    in_all: bool = True
    """Whether `python -m bench all` runs it."""

    def seconds(self, size: Size) -> int:
        """Return about how long it takes."""
        return size.pick(full=self.full_seconds, quick=self.quick_seconds, smoke=10)


BENCHMARKS: Final = (
    Benchmark("fanout", "one event to many clients", 150, 60),
    Benchmark("burst", "many events at once to many clients", 90, 40),
    Benchmark("private", "events that are for one of many users", 150, 45),
    Benchmark("capture", "what capture costs writers", 400, 75),
    Benchmark("relay", "what the relay costs at a steady rate", 90, 35),
    Benchmark("bulk", "one transaction with many rows", 200, 50),
    Benchmark("latency", "commit to client", 100, 45),
    Benchmark("policies", "policies of many shapes", 600, 120),
    Benchmark("memory", "memory for an idle stream", 120, 50),
    Benchmark("connect", "opening a stream", 60, 20),
    Benchmark("storm", "all clients come back after a restart", 60, 20),
    Benchmark("scale", "1, 2 and 4 gateways", 420, 120),
    Benchmark("visibility", "who may see a batch of events", 300, 60, in_all=False),
    Benchmark("regions", "commit to client in three regions", 150, 90, in_all=False),
)
