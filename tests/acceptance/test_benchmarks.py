"""The benchmarks run, with tiny numbers: their own checks of what arrives are met."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.catalogue import BENCHMARKS
from bench.reports.document import decode
from bench.reports.plots import plot
from tests.support.requirements import Requirements

NAMES = [benchmark.name for benchmark in BENCHMARKS if benchmark.in_all]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs(name: str, tmp_path: Path, require: Requirements) -> None:
    """Every event arrives where it should and nowhere else, and every figure can be drawn."""
    require.program("cc", package="gcc libc6-dev")
    file = tmp_path / "report.json"
    ran = subprocess.run(
        [sys.executable, "-m", "bench", name, "--smoke", "--part", "--json", file],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    [report] = decode(file.read_bytes()).reports
    assert report.error == ""
    assert report.checked.endswith(".")
    assert any("ours" in case.values for figure in report.figures for case in figure.cases)
    for figure in report.figures:
        assert figure.cases
        assert "<title" in plot(figure)
