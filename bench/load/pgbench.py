"""Many writers: Postgres' own pgbench, with a script."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.postgres import PostgresServer


async def pgbench(
    postgres: PostgresServer, script: Path, *, writers: int, seconds: int, rate: int | None = None
) -> tuple[int, float]:
    """Have so many sessions repeat a script; return the transactions, and those of a second.

    With a `rate` they do so that many times a second, otherwise as fast as they can. Raises
    `OperatorError` if pgbench fails, `RuntimeError` if one of its transactions does.
    """
    said = await asyncio.to_thread(
        postgres.run_program,
        "pgbench", "-n", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres",
        "-c", str(writers), "-j", "2", "-T", str(seconds), "-M", "prepared", "-f", script,
        *(() if rate is None else ("-R", str(rate))), "postgres",
    )  # fmt: skip
    return read_output(said)


def read_output(text: str) -> tuple[int, float]:
    """Read the transactions and those of a second; raises `RuntimeError` if any failed."""
    done = re.search(r"transactions actually processed: (\d+)", text)
    rate = re.search(r"tps = ([0-9.]+)", text)
    failed = re.search(r"failed transactions: (\d+)", text)
    if done is None or rate is None or (failed is not None and failed[1] != "0"):
        raise RuntimeError(f"pgbench: {text}")
    return int(done[1]), float(rate[1])
