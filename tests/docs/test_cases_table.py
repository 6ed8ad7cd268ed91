"""`tests/CASES.md`: every case has a test, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (TESTS / "CASES.md").read_text(encoding="utf-8")


def test_each_named_test_is_there() -> None:
    """The table names files and functions that are there."""
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", TABLE)
    assert len(named) > 43
    for file, function in named:
        if file == "test_cases_table.py":
            continue
        path = TESTS / file
        assert path.is_file(), file
        assert not function or f"def {function}(" in path.read_text("utf-8"), (file, function)


def test_no_case_is_left_out() -> None:
    """Cases 1 to 43 each have a line with a test."""
    lines = re.findall(r"^\| (\d+)b? \|.*`\w+/.*\.py", TABLE, re.MULTILINE)
    assert sorted({int(number) for number in lines}) == list(range(1, 44))
