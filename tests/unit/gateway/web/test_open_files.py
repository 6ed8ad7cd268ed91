"""What the open files of a gateway are spent on."""

from __future__ import annotations

import pytest

from gateway.web.open_files import FileBudget, divide


@pytest.mark.parametrize(
    ("files", "streams", "budget"),
    [
        (20_200, 20_000, FileBudget(streams=20_000, connections=20_100)),
        (300, 20_000, FileBudget(streams=150, connections=200)),
        (208, 8, FileBudget(streams=8, connections=108)),
        (64, 20_000, FileBudget(streams=16, connections=32)),
        (1, 1, FileBudget(streams=1, connections=1)),
    ],
)
def test_files_are_divided(files: int, streams: int, budget: FileBudget) -> None:
    """Streams leave room for requests that are none, and all connections for the process itself."""
    assert divide(files, streams) == budget
