"""SQL lives in `.sql` files: named queries, numbered migrations, and functions.

A query file is a sequence of `-- name: some_name` lines, each followed by what the query is for
(comments) and its text. It lies in the room that asks its queries.

Migrations make tables; each is applied once and never edited afterwards. Functions are made by
`CREATE OR REPLACE`, one file each, and applied again whenever one has changed. A function whose
parameters or result change gets a new name, so that processes of the previous version, which run
beside this one during a rollout, still find theirs. The next version after that drops the old one
(`relay.schema.migrate`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)

FUNCTIONS_VERSION: Final = 1
"""Raised with each release that changes a function: an older relay leaves newer functions alone."""


@dataclass(frozen=True, slots=True)
class Script:
    """A migration or a function: its name, such as `0001_outbox`, and its SQL."""

    name: str
    sql: str

    @property
    def number(self) -> int:
        """The number of a migration."""
        return int(self.name.partition("_")[0])

    @property
    def checksum(self) -> str:
        """A digest of the SQL: SHA-256, in hexadecimal digits."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def queries(package: str, file: str = "queries.sql") -> dict[str, str]:
    """Read the named queries of a file that lies in `package`."""
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def migrations() -> list[Script]:
    """List the migrations in their order."""
    return _scripts("migrations")


def functions() -> Script:
    """Join all functions, and the grants that follow them, into one script."""
    scripts = [*_scripts("functions"), *_scripts("grants")]
    return Script("functions", "\n".join(script.sql for script in scripts))


def _scripts(folder: str) -> list[Script]:
    found = [
        Script(entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
        for entry in files("shared.sql").joinpath(folder).iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda script: script.name)
