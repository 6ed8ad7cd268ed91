"""All reports of one run, and the machine: what `--json` writes."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.reports.report import Report  # noqa: TC001 (read when a document is decoded)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run took place."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str


@dataclass(slots=True)
class Document:
    """A run of one benchmark or of several."""

    machine: Machine
    size: str
    started: str
    """Local time, ISO 8601."""
    commit: str = ""
    """The commit that was measured; empty if there is no repository."""
    reports: list[Report] = field(default_factory=list)


def encode(document: Document) -> bytes:
    """Encode as JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode(data: bytes) -> Document:
    """Decode JSON; raises `ValueError` if it is not a document of this kind."""
    try:
        return msgspec.json.decode(data, type=Document)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not the report of a benchmark: {error}") from None


def this_machine() -> Machine:
    """Describe this machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text("utf-8"), re.MULTILINE)
        model = found[1] if found else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        processor=model,
        cores=os.cpu_count() or 1,
        memory_gib=round(memory, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )
