"""The most memory of their own that processes have while something happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_SAMPLE_SECONDS: Final = 0.02


@dataclass
class PeakMemory:
    """Samples the anonymous memory of processes, by name, fifty times a second.

    Memory that is shared or that maps files is not counted: sessions of Postgres show the buffers
    that they have touched, and would seem to grow.
    """

    processes: Mapping[str, int]
    _before: dict[str, int] = field(default_factory=dict, init=False)
    _most: dict[str, int] = field(default_factory=dict, init=False)

    async def __aenter__(self) -> Self:
        self._before = {name: anonymous_bytes(pid) for name, pid in self.processes.items()}
        self._most = dict(self._before)
        self._sampling = asyncio.create_task(self._sample(), name="memory")
        return self

    async def _sample(self) -> None:
        while True:
            for name, pid in self.processes.items():
                self._most[name] = max(self._most[name], anonymous_bytes(pid))
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sampling.cancel()
        await asyncio.wait([self._sampling])

    def growth(self, *names: str) -> int:
        """Return by how many bytes these processes grew at most, each at its own time."""
        return sum(self._most[name] - self._before[name] for name in names)


def anonymous_bytes(pid: int) -> int:
    """Return the anonymous memory of a process; its resident set where the system does not say.

    It is 0 if the process has ended.
    """
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
