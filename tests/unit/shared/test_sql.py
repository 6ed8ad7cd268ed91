"""Named queries, migrations and functions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.sql import Script, functions, migrations, queries

PROJECT = Path(__file__).parents[3]
ROOMS = [
    (".".join(path.parent.relative_to(PROJECT).parts), path.name)
    for package in ("shared", "relay", "gateway")
    for path in sorted((PROJECT / package).rglob("*.sql"))
    if not path.is_relative_to(PROJECT / "shared/sql")
]


@pytest.mark.parametrize(("package", "file"), ROOMS)
def test_queries_are_named_and_used(package: str, file: str) -> None:
    """In each room's file every query has a name of its own, a statement, and a caller."""
    room = PROJECT.joinpath(*package.split("."))
    text = (room / file).read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in room.rglob("*.py"))
    names = re.findall(r"^-- name: (.*)$", text, re.MULTILINE)
    found = queries(package, file)
    assert len(set(names)) == len(names)
    assert list(found) == names
    for name, query in found.items():
        assert any(line and not line.startswith("--") for line in query.splitlines()), name
        assert f'"{name}"' in code, f"{name} has no caller in {package}"


def test_every_room_has_its_queries() -> None:
    """The files are found at all."""
    assert ("shared", "outbox.sql") in ROOMS


def test_migrations_are_numbered_without_holes() -> None:
    """They are applied in the order of their numbers, beginning at 1."""
    assert [script.number for script in migrations()] == list(range(1, len(migrations()) + 1))


def test_functions_can_be_applied_again() -> None:
    """Every function is made by CREATE OR REPLACE, and none is made twice."""
    sql = functions().sql
    made = re.findall(r"^CREATE (.*?)FUNCTION (\S+?)\(", sql, re.MULTILINE)
    assert {how for how, _ in made} == {"OR REPLACE "}
    assert len({name for _, name in made}) == len(made)


def test_a_checksum_is_of_the_sql_alone() -> None:
    """Two scripts with the same text have one checksum, whatever they are called."""
    one, same = Script("0001_a", "SELECT 1"), Script("0002_b", "SELECT 1")
    assert one.checksum == same.checksum != Script("0001_a", "SELECT 2").checksum
