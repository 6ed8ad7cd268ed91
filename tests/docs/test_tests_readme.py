"""tests/README.md names the variables that the tests read."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
READ = re.compile(r"environ(?:\.get\(|\[)\s*\"([A-Z_]+)\"")


def test_every_variable_is_explained() -> None:
    """Each variable that a test or its support reads has a row, and no row is left over."""
    read = {
        name
        for file in TESTS.rglob("*.py")
        if "node_modules" not in file.parts
        for name in READ.findall(file.read_text("utf-8"))
    } - {"PATH"}
    text = (TESTS / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)) == read
