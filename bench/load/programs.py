"""The load client and the bare write loop: small C programs, built here and driven by commands.

A client in Python would be the bottleneck of what it measures. These cost little more than their
system calls, and the client reports its own CPU time with each answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import subprocess
import tempfile
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bench.reports.report import NotPossibleError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_SOURCES: Final = Path(__file__).parent
_LONGEST_ANSWER: Final = 2**22
MARKER: Final = '{"action"'
"""Occurs once in the frame of a change."""


def build(name: str) -> Path:
    """Compile `bench/NAME.c` unless that has been done; raises `NotPossibleError` without cc."""
    if shutil.which("cc") is None:
        raise NotPossibleError("no C compiler (apt-get install gcc libc6-dev)")
    source = _SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    program = Path(tempfile.gettempdir()) / f"ayb-bench-{name}-{digest}"
    if not program.exists():
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / name
            subprocess.run(["cc", "-O2", "-o", built, source], check=True)
            with contextlib.suppress(OSError):
                built.rename(program)
            if not program.exists():
                program.write_bytes(built.read_bytes())
                program.chmod(0o755)
    return program


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What the streams have received since the last `forget`."""

    streams: int
    closed: int
    markers: int
    fewest: int
    most: int
    """The markers of the stream that has most of them."""
    bytes: int
    reads: int
    seconds: float
    """Until the last marker."""
    cpu_seconds: float
    """What the client itself took, user and system."""


class Program:
    """A process that answers each line with a line."""

    def __init__(self, path: Path, *arguments: str) -> None:
        self._command = (str(path), *arguments)
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, limit=_LONGEST_ANSWER
        )
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("a program without pipes")
        self._commands, self._answers = self.process.stdin, self.process.stdout
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def ask(self, command: str) -> str:
        """Send a command and return the answer; raises `RuntimeError` if the process has ended."""
        async with self._asking:
            self._commands.write(command.encode() + b"\n")
            return await self.answer()

    async def answer(self) -> str:
        """Read one line."""
        line = await self._answers.readline()
        if not line:
            raise RuntimeError(f"{self._command[0]} has ended")
        return line.decode().strip()


class LoadClient(Program):
    """Many streams from one server; see `bench/load/load.c`."""

    def __init__(
        self, port: int, *, marker: str = MARKER, opened: str = "event: connected"
    ) -> None:
        super().__init__(build("load"), "127.0.0.1", str(port), marker, opened)

    async def use_tokens(self, tokens: Sequence[str]) -> None:
        """Use a token each for the streams that are opened next, as `%t`."""
        with tempfile.NamedTemporaryFile("w", prefix="ayb-bench-") as file:
            file.write("".join(f"{token}\n" for token in tokens))
            file.flush()
            await self.ask(f"tokens {file.name}")

    async def open(self, streams: int, path: str, **headers: str) -> None:
        """Open streams; in the path and headers `%d` is the number of the stream, `%t` its token.

        Raises `RuntimeError` if one does not open within two minutes.
        """
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "".join(f"{line}\\n" for line in lines) + "\\n"
        before = int((await self.ask("report")).split()[0])
        answer = await self.ask(f"open {streams} {head}")
        if answer != f"opened {before + streams}":
            raise RuntimeError(f"{streams} streams were to open: {answer}")

    async def forget(self) -> None:
        """Set all counts to zero."""
        await self.ask("forget")

    async def report(self) -> LoadReport:
        """Return the counts of this moment."""
        return _report(await self.ask("report"))

    async def expect(self, each: int, *, seconds: float = 60.0) -> LoadReport:
        """Wait until each stream has so many markers; raises `RuntimeError` if one has others."""
        report = _report(await self.ask(f"expect {each} {seconds}"))
        if (report.fewest, report.most) != (each, each) or report.closed:
            raise RuntimeError(f"each stream should have {each} events: {report}")
        return report

    async def sums(self) -> list[tuple[int, int]]:
        """Return for each stream how many markers it has, and the sum of the numbers after them."""
        pairs = (pair.split(":") for pair in (await self.ask("sums")).split())
        return [(int(count), int(total)) for count, total in pairs]

    async def close_all(self) -> None:
        """Close all streams."""
        await self.ask("close")

    async def total(self, together: int, *, seconds: float = 60.0) -> LoadReport:
        """Wait until all streams together have so many markers, with the same errors."""
        report = _report(await self.ask(f"total {together} {seconds}"))
        if report.markers != together or report.closed:
            raise RuntimeError(f"the streams should have {together} events: {report}")
        return report


class WriteLoop(Program):
    """The bare limit: a server that only writes; see `bench/load/loop.c`."""

    def __init__(self, port: int) -> None:
        super().__init__(build("loop"), str(port))

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.answer()
        return self

    async def publish(self, events: int, *, joined: int = 1, size: int = 150) -> float:
        """Write events to all streams, so many in one write; return the CPU seconds it took."""
        return float(await self.ask(f"publish {events} {joined} {size}"))


def _report(line: str) -> LoadReport:
    *counts, seconds, cpu_seconds = line.split()
    streams, closed, markers, fewest, most, size, reads = map(int, counts)
    return LoadReport(
        streams, closed, markers, fewest, most, size, reads, float(seconds), float(cpu_seconds)
    )
