"""What a check of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.logging import redact


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it."""

    level: Level
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n       -> {self.remedy}" if self.remedy else ""
        return f"{self.level:<6} {redact(self.what)}{redact(remedy)}"


def ok(what: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, what)


def warn(what: str, remedy: str) -> Finding:
    """It works, but perhaps not as wanted."""
    return Finding(Level.WARN, what, remedy)


def fail(what: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, what, remedy)
