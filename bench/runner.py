"""Runs benchmarks, each in a process of its own, and goes on if one of them fails."""

from __future__ import annotations

import importlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.catalogue import BENCHMARKS
from bench.reports.document import Document, decode, this_machine
from bench.reports.report import NotPossibleError, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.catalogue import Benchmark
    from bench.size import Size

_MOST_TIMES_LONGER: Final = 4
"""A benchmark that takes so many times as long as it should is ended; a loaded machine is slow."""
_LEAST_SECONDS: Final = 120
_END_SECONDS: Final = 20


def run_one(name: str, size: Size) -> Document:
    """Run a benchmark in this process. If it fails, its report says why."""
    print(f"{name} ({size.value})", flush=True)
    document = _document(size)
    before, began = os.getloadavg()[0], time.monotonic()
    try:
        report: Report = importlib.import_module(f"bench.benchmarks.{name}").run(size)
    except NotPossibleError as error:
        report = Report(name)
        report.leave_out("the whole benchmark", str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is, the others go on)
        traceback.print_exc()
        report = Report(name, error=f"{type(error).__name__}: {error}")
    report.seconds = round(time.monotonic() - began, 1)
    report.load_before, report.load_after = round(before, 2), round(os.getloadavg()[0], 2)
    document.reports.append(report)
    return document


def run_all(size: Size, *, most_seconds: float | None = None) -> Document:
    """Run all benchmarks after another, with the time that remains before each.

    If there is a limit, benchmarks that would exceed it are left out, and one that does is ended.
    """
    benchmarks = [benchmark for benchmark in BENCHMARKS if benchmark.in_all]
    document = _document(size)
    began = time.monotonic()
    for number, benchmark in enumerate(benchmarks):
        left = remaining_seconds(benchmarks, number, time.monotonic() - began, size)
        print(f"[{number + 1}/{len(benchmarks)}] about {_minutes(left)} to go", flush=True)
        allowed = math.inf if most_seconds is None else began + most_seconds - time.monotonic()
        if benchmark.seconds(size) > allowed:
            report = Report(benchmark.name)
            report.leave_out(benchmark.name, f"only {_minutes(max(0, allowed))} of the time left")
            document.reports.append(report)
        else:
            document.reports.append(_run_apart(benchmark, size, allowed))
    print(f"all done in {_minutes(time.monotonic() - began)}", flush=True)
    return document


def remaining_seconds(
    benchmarks: Sequence[Benchmark], done: int, spent_seconds: float, size: Size
) -> float:
    """Estimate how long the rest takes, if it is slower than expected by as much as the first."""
    expected = [benchmark.seconds(size) for benchmark in benchmarks]
    slower = spent_seconds / sum(expected[:done]) if done else 1.0
    return sum(expected[done:]) * slower


def _run_apart(benchmark: Benchmark, size: Size, allowed_seconds: float) -> Report:
    """Run a benchmark in a process of its own, and end that if it takes far too long."""
    with tempfile.TemporaryDirectory(prefix="ayb-bench-") as folder:
        file = Path(folder) / "report.json"
        command = [sys.executable, "-m", "bench", benchmark.name, "--part", "--json", str(file)]
        command += [] if size.value == "full" else [f"--{size.value}"]
        limit: float = max(_LEAST_SECONDS, _MOST_TIMES_LONGER * benchmark.seconds(size))
        limit = min(limit, allowed_seconds)
        with subprocess.Popen(command) as process:
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                _end(process)
                return Report(benchmark.name, error=f"was ended after {limit:.0f} s")
            except BaseException:
                _end(process)
                raise
        if not file.exists():
            return Report(benchmark.name, error=f"ended with status {status} and no report")
        [report] = decode(file.read_bytes()).reports
        return report


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a benchmark, so that it stops its servers; kill it if that does not help."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _document(size: Size) -> Document:
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    return Document(this_machine(), size.value, started, _commit())


def _commit() -> str:
    """Return the short name of the commit that is measured; empty if there is none."""
    told = subprocess.run(
        ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return told.stdout.strip() if told.returncode == 0 else ""


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
